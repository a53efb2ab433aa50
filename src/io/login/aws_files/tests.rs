use super::super::aws::tests::{Server, around, given, message_of, missed, seconds_from_now};
use super::*;

/// Both files with these texts, and what is looked up in them.
struct Files {
    _folder: tempfile::TempDir,
    config: String,
    credentials: String,
}

impl Files {
    fn new(config: &str, credentials: &str) -> Files {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
        let files = Files { config: path("a"), credentials: path("b"), _folder: folder };
        std::fs::write(&files.config, config).expect("it is written");
        std::fs::write(&files.credentials, credentials).expect("it is written");
        files
    }

    fn around(&self, more: &[(&str, &str)]) -> Surroundings {
        let files = [
            ("AWS_CONFIG_FILE", &*self.config),
            ("AWS_SHARED_CREDENTIALS_FILE", &self.credentials),
        ];
        around(&files.iter().chain(more).copied().collect::<Vec<_>>())
    }

    fn look(&self, profile: Option<&str>) -> Looked {
        look(&self.around(&[]), profile, None)
    }
}

const CREDENTIALS: &str = "
# A comment
[default]
aws_access_key_id=AKIDDEFAULT
aws_secret_access_key = hunter2/with=signs#inside   # and a comment
s3 =
    aws_access_key_id = nested
[ shop ] ; another
AWS_ACCESS_KEY_ID = AKIDSHOP
aws_secret_access_key = hunter2
aws_session_token = token
[profile odd]
aws_access_key_id = AKIDODD
";

#[test]
fn profiles_are_read_from_the_file_of_credentials() {
    let files = Files::new("", CREDENTIALS);
    let first = message_of("AKIDDEFAULT", "hunter2/with=signs#inside", None);
    assert_eq!(given(files.look(None)), ("AKIDDEFAULT".into(), None, first));
    let first = message_of("AKIDSHOP", "hunter2", Some("token"));
    assert_eq!(given(files.look(Some("shop"))), ("AKIDSHOP".into(), None, first.clone()));
    let named = files.around(&[("AWS_PROFILE", "shop")]);
    assert_eq!(given(look(&named, None, None)).2, first);
    assert_eq!(given(look(&named, Some("default"), None)).0, "AKIDDEFAULT");
}

#[test]
fn the_other_file_has_other_sections_and_counts_less() {
    let config = "[default]\nregion = eu-west-1\n[profile shop]\naws_access_key_id = AKIDOLD\n\
                  aws_secret_access_key = hunter2\n[profile \"two words\"]\n\
                  aws_access_key_id = AKIDTWO\naws_secret_access_key = hunter2\n[odd]\n\
                  aws_access_key_id = AKIDODD\naws_secret_access_key = hunter2\n";
    let files = Files::new(config, "[shop]\naws_access_key_id = AKIDNEW\n");
    assert_eq!(given(files.look(Some("shop"))).2, message_of("AKIDNEW", "hunter2", None));
    assert_eq!(given(files.look(Some("two words"))).0, "AKIDTWO");
    let (_, words) = missed(files.look(Some("odd")));
    assert!(words.contains("there is no profile \"odd\""), "{words}");
    // The usual one is about a region only: the search goes on, unless it was asked for.
    let (goes_on, words) = missed(files.look(None));
    assert!(goes_on && words.contains("has no credentials"), "{words}");
    assert!(!missed(files.look(Some("default"))).0);
}

#[test]
fn files_that_are_not_there_are_no_error_unless_a_profile_was_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().to_str().expect("UTF-8");
    let (goes_on, words) = missed(look(&around(&[("HOME", home)]), None, None));
    assert!(goes_on && words.contains("/.aws/credentials is not there"), "{words}");
    let named = around(&[("HOME", home), ("AWS_PROFILE", "shop")]);
    let (goes_on, words) = missed(look(&named, None, None));
    assert!(!goes_on && words.contains("there is no profile \"shop\""), "{words}");
    let (goes_on, words) = missed(look(&around(&[]), None, None));
    assert!(goes_on && words.contains("HOME is not set"), "{words}");
    std::fs::create_dir(folder.path().join(".aws")).expect("it is made");
    std::fs::write(folder.path().join(".aws/credentials"), CREDENTIALS).expect("it is written");
    assert_eq!(given(look(&around(&[("HOME", home)]), None, None)).0, "AKIDDEFAULT");
    let tilde = [("HOME", home), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")];
    assert_eq!(given(look(&around(&tilde), Some("shop"), None)).0, "AKIDSHOP");
}

#[test]
fn a_file_that_cannot_be_used_is_told_and_not_shown() {
    let files = Files::new("", CREDENTIALS);
    std::fs::write(&files.config, b"[default]\naws_secret_access_key = hunter2\xff")
        .expect("it is");
    let (goes_on, words) = missed(files.look(None));
    assert!(!goes_on && words.contains("no text in UTF-8"), "{words}");
    std::fs::write(&files.config, vec![b'x'; BYTES_MAX + 1]).expect("it is written");
    let (goes_on, words) = missed(files.look(None));
    assert!(!goes_on && words.contains("bytes"), "{words}");
    let folder = around(&[("AWS_CONFIG_FILE", "/"), ("HOME", "/nowhere")]);
    let (goes_on, words) = missed(look(&folder, None, None));
    assert!(!goes_on && words.contains("/ "), "{words}");
}

#[test]
fn half_a_key_in_a_profile_is_told() {
    for (key, words) in [
        ("aws_access_key_id", "no aws_secret_access_key"),
        ("aws_secret_access_key", "no aws_access_key_id"),
    ] {
        let files = Files::new("", &format!("[default]\n{key} = hunter2\n"));
        let (goes_on, told) = missed(files.look(None));
        assert!(!goes_on && told.contains(words), "{told}");
    }
}

#[test]
fn a_profile_that_wants_more_than_is_done_here_says_what_to_do() {
    for (line, words) in [
        ("role_arn = arn:aws:iam::1:role/a\nsource_profile = b", "role_arn"),
        ("sso_session = my-sso", "sso_session"),
        ("sso_start_url = https://hunter2.example", "sso_start_url"),
        ("login_session = arn:aws:iam::1:user/a", "login_session"),
    ] {
        let files = Files::new(&format!("[profile shop]\n{line}\n"), "");
        let (goes_on, told) = missed(files.look(Some("shop")));
        assert!(!goes_on && told.contains(words), "{told}");
        let advice = "credential_process = aws configure export-credentials --profile shop";
        assert!(told.contains(advice), "{told}");
    }
}

#[test]
fn a_profile_may_name_a_web_identity() {
    let answer = "<AccessKeyId>ASIASTS</AccessKeyId><SecretAccessKey>hunter2</SecretAccessKey>\
                  <SessionToken>token</SessionToken><Expiration>2027-01-15T09:00:00Z</Expiration>";
    let server = Server::new(move |_| (200, answer.to_owned()));
    let files = Files::new("", "");
    std::fs::write(&files.credentials, "jwt").expect("it is written");
    let config = format!(
        "[profile shop]\nrole_arn = arn:aws:iam::1:role/a\nrole_session_name = me\n\
         web_identity_token_file = {}\n",
        files.credentials
    );
    std::fs::write(&files.config, config).expect("it is written");
    let here = around(&[
        ("AWS_CONFIG_FILE", &*files.config),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"),
        ("AWS_ENDPOINT_URL_STS", &server.url()),
    ]);
    assert_eq!(given(look(&here, Some("shop"), None)).0, "ASIASTS");
    let asked = server.asked().pop().expect("it was asked");
    assert!(asked.contains("RoleSessionName=me&WebIdentityToken=jwt"), "{asked}");
}

fn with_process(command: &str) -> Files {
    Files::new(&format!("[default]\ncredential_process = {command}\n"), "")
}

#[test]
fn a_program_may_give_credentials() {
    let files = with_process(concat!(
        r#"printf '%s' '{"Version": 1, "AccessKeyId": "ASIAPROC", "SecretAccessKey": "hunter2","#,
        r#""SessionToken": "token", "Expiration": "2027-01-15T10:00:00+01:00"}'"#,
    ));
    let first = message_of("ASIAPROC", "hunter2", Some("token"));
    assert_eq!(given(files.look(None)), ("ASIAPROC".into(), seconds_from_now(3_600), first));
    let files =
        with_process(r#"echo '{"Version":1,"AccessKeyId":"AKID","SecretAccessKey":"hunter2"}'"#);
    assert_eq!(given(files.look(None)).2, message_of("AKID", "hunter2", None));
}

#[test]
fn a_program_that_gives_none_is_told_without_what_it_says() {
    for (command, words) in [
        ("echo hunter2 >&2; exit 3", "ended with an error"),
        ("no-such-program hunter2", "ended with an error"),
        ("echo hunter2", "no JSON object"),
        ("true", "no JSON object"),
        (r#"echo '{"SecretAccessKey": "hunter2"}'"#, "Version"),
        (r#"echo '{"Version": 2, "SecretAccessKey": "hunter2"}'"#, "Version"),
        (r#"echo '{"Version": 1, "SecretAccessKey": "hunter2"}'"#, "AccessKeyId is missing"),
        ("head -c 2000000 /dev/zero", "writes too much"),
    ] {
        let (goes_on, told) = missed(with_process(command).look(None));
        assert!(!goes_on && told.contains(words), "{command}: {told}");
        assert!(told.contains("credential_process"), "{told}");
    }
}

#[test]
fn a_program_that_does_not_end_is_stopped() {
    // One of them goes on writing nothing, the other has closed its output.
    for command in ["exec sleep 600", "exec sleep 600 >&-"] {
        let files = with_process(command);
        let mut here = files.around(&[]);
        here.process_timeout = Duration::from_millis(50);
        let (goes_on, told) = missed(look(&here, None, None));
        assert!(!goes_on && told.contains("did not end in time"), "{told}");
    }
}
