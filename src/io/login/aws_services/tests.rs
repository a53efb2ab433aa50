use super::super::aws::tests::{Server, around, given, message_of, missed, seconds_from_now};
use super::*;

const ROLE: &str = "arn:aws:iam::123456789012:role/shop";

/// A file with this text, and its path.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, text).expect("it is written");
    let path = path.to_str().expect("UTF-8").to_owned();
    (folder, path)
}

/// What STS answers, in JSON and in XML, with credentials that are good for an hour.
fn sts_answers() -> [String; 2] {
    let json = r#"{"AssumeRoleWithWebIdentityResponse": {"AssumeRoleWithWebIdentityResult": {
        "AssumedRoleUser": {"Arn": "x"}, "Credentials": {"AccessKeyId": "ASIASTS",
        "SecretAccessKey": "hunter2", "SessionToken": "token", "Expiration": 1.8000036E9}},
        "ResponseMetadata": {"RequestId": "1"}}}"#;
    let xml = "<AssumeRoleWithWebIdentityResponse xmlns=\"x\"><AssumeRoleWithWebIdentityResult>
        <Credentials>
          <SessionToken>
            token
          </SessionToken>
          <SecretAccessKey>hunter2</SecretAccessKey>
          <Expiration>2027-01-15T09:00:00.5Z</Expiration>
          <AccessKeyId>ASIASTS</AccessKeyId>
        </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
    [json.to_owned(), xml.to_owned()]
}

#[test]
fn a_web_identity_is_exchanged_for_credentials() {
    let (_folder, path) = file("jwt.a+b/c=\n");
    for answer in sts_answers() {
        let server = Server::new(move |_| (200, answer.clone()));
        let looked = web_identity(
            &around(&[
                ("AWS_WEB_IDENTITY_TOKEN_FILE", &path),
                ("AWS_ROLE_ARN", ROLE),
                ("AWS_ENDPOINT_URL_STS", &server.url()),
            ]),
            None,
        );
        let expected = message_of("ASIASTS", "hunter2", Some("token"));
        assert_eq!(given(looked), ("ASIASTS".into(), seconds_from_now(3_600), expected));
        let asked = server.asked().pop().expect("it was asked");
        assert!(asked.starts_with("POST / HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("\r\nAccept: application/json\r\n"), "{asked}");
        let body = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A\
                    %3A123456789012%3Arole%2Fshop&RoleSessionName=tidegate&\
                    WebIdentityToken=jwt.a%2Bb%2Fc%3D";
        assert!(asked.ends_with(body), "{asked}");
    }
}

#[test]
fn a_session_has_the_name_that_is_set() {
    let (_folder, path) = file("jwt");
    let [answer, _] = sts_answers();
    let server = Server::new(move |_| (200, answer.clone()));
    let looked = web_identity(
        &around(&[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &path),
            ("AWS_ROLE_ARN", ROLE),
            ("AWS_ROLE_SESSION_NAME", "shop-7"),
            ("AWS_ENDPOINT_URL", &server.url()),
        ]),
        None,
    );
    given(looked);
    assert!(server.asked()[0].contains("RoleSessionName=shop-7&"));
}

#[test]
fn what_sts_says_of_an_error_is_told_without_the_token() {
    let (_folder, path) = file("hunter2");
    let answers = [
        (r#"{"Error": {"Code": "AccessDenied", "Message": "Not\nauthorized"}}"#, "AccessDenied"),
        ("<Error><Code>ExpiredToken</Code><Message>it is hunter2</Message></Error>", "Expired"),
        ("<html>hunter2</html>", "status 400: check the role arn"),
    ];
    for (answer, words) in answers {
        let server = Server::new(move |_| (400, answer.to_owned()));
        let looked = web_identity(
            &around(&[
                ("AWS_WEB_IDENTITY_TOKEN_FILE", &path),
                ("AWS_ROLE_ARN", ROLE),
                ("AWS_ENDPOINT_URL_STS", &server.url()),
            ]),
            None,
        );
        let (goes_on, told) = missed(looked);
        assert!(!goes_on && told.contains(words) && !told.contains('\n'), "{told}");
        assert!(told.contains(ROLE), "{told}");
    }
}

#[test]
fn an_answer_of_sts_without_credentials_is_told() {
    let (_folder, path) = file("jwt");
    let no_id = "<SecretAccessKey>hunter2</SecretAccessKey><Expiration>2027-01-15T09:00:00Z\
                 </Expiration>";
    for answer in ["", "hunter2", "{}", r#"{"SecretAccessKey": "hunter2"}"#, no_id] {
        let server = Server::new(move |_| (200, answer.to_owned()));
        let looked = web_identity(
            &around(&[
                ("AWS_WEB_IDENTITY_TOKEN_FILE", &path),
                ("AWS_ROLE_ARN", ROLE),
                ("AWS_ENDPOINT_URL_STS", &server.url()),
            ]),
            None,
        );
        let (goes_on, told) = missed(looked);
        assert!(!goes_on && told.contains("gave no credentials"), "{told}");
    }
}

#[test]
fn a_web_identity_that_is_set_up_by_half_is_told() {
    assert!(missed(web_identity(&around(&[]), None)).0);
    let no_role = around(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token")]);
    let (goes_on, words) = missed(web_identity(&no_role, None));
    assert!(!goes_on && words.contains("not AWS_ROLE_ARN"), "{words}");
    let no_file =
        around(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token"), ("AWS_ROLE_ARN", ROLE)]);
    let (goes_on, words) = missed(web_identity(&no_file, None));
    assert!(!goes_on && words.contains("/nowhere/token does not exist"), "{words}");
    let (_folder, path) = file("\n");
    let empty = around(&[("AWS_WEB_IDENTITY_TOKEN_FILE", &path), ("AWS_ROLE_ARN", ROLE)]);
    assert!(missed(web_identity(&empty, None)).1.contains("is empty"));
}

#[test]
fn sts_is_asked_in_the_region_over_https() {
    let at = |variables: &[(&str, &str)], region| {
        sts(&around(variables), region).map(|url| format!("{} {}", url.is_https(), url.host()))
    };
    for (variables, region, expected) in [
        (&[("AWS_REGION", "eu-west-1")][..], Some("us-east-1"), "sts.eu-west-1.amazonaws.com"),
        (&[("AWS_DEFAULT_REGION", "cn-north-1")], None, "sts.cn-north-1.amazonaws.com.cn"),
        (&[], Some("us-gov-west-1"), "sts.us-gov-west-1.amazonaws.com"),
        (&[], Some("eusc-de-east-1"), "sts.eusc-de-east-1.amazonaws.eu"),
        (&[], None, "sts.amazonaws.com"),
    ] {
        assert_eq!(at(variables, region).expect("a URL"), format!("true {expected}"));
    }
    for variables in
        [("AWS_REGION", "evil.example/"), ("AWS_ENDPOINT_URL_STS", "https://a:hunter2@sts/")]
    {
        let error = sts(&around(&[variables]), None).expect_err("it is refused");
        let words = missed(Err(error)).1;
        assert!(words.contains(variables.0), "{words}");
    }
}

const AGENTS_ANSWER: &str = r#"{"RoleArn": "x", "AccessKeyId": "ASIAECS",
    "SecretAccessKey": "hunter2", "Token": "token", "Expiration": "2027-01-15T09:00:00Z"}"#;

#[test]
fn a_containers_agent_is_asked_with_the_token_that_is_set() {
    let (_folder, path) = file("from a file\n");
    let server = Server::new(|_| (200, AGENTS_ANSWER.to_owned()));
    let full = format!("{}/v1/credentials", server.url());
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", full.as_str());
    let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "from a variable");
    let token_file = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path.as_str());
    for (variables, header) in [
        (&[full][..], None),
        (&[full, token], Some("\r\nAuthorization: from a variable\r\n")),
        (&[full, token, token_file], Some("\r\nAuthorization: from a file\r\n")),
    ] {
        let expected = message_of("ASIAECS", "hunter2", Some("token"));
        let looked = container(&around(variables));
        assert_eq!(given(looked), ("ASIAECS".into(), seconds_from_now(3_600), expected));
        let asked = server.asked().pop().expect("it was asked");
        assert!(asked.starts_with("GET /v1/credentials HTTP/1.1\r\n"), "{asked}");
        match header {
            Some(header) => assert!(asked.contains(header), "{asked}"),
            None => assert!(!asked.contains("Authorization"), "{asked}"),
        }
    }
}

#[test]
fn a_relative_uri_is_asked_at_the_agent_of_ecs_and_comes_first() {
    let server = Server::new(|_| (200, AGENTS_ANSWER.to_owned()));
    let mut here = around(&[
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "https://elsewhere.example/"),
    ]);
    here.container = server.url().leak();
    given(container(&here));
    assert!(server.asked()[0].starts_with("GET /v2/credentials/1 HTTP/1.1\r\n"));
    for path in ["v2", "@evil.example/", ":80@evil.example/"] {
        let variables = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", path)];
        let (goes_on, words) = missed(container(&around(&variables)));
        assert!(!goes_on && words.contains("must begin with a slash"), "{words}");
    }
}

#[test]
fn a_containers_secrets_are_not_sent_in_the_open() {
    for host in ["127.0.0.1", "127.9.9.9", "::1", "localhost", "169.254.170.2", "169.254.170.23"] {
        assert!(is_near(host), "{host}");
    }
    assert!(is_near("fd00:ec2:0:0::23"), "however it is written");
    for host in ["10.0.0.1", "169.254.170.3", "localhost.example", "127.0.0.1.example", "fd00::23"]
    {
        assert!(!is_near(host), "{host}");
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = format!("http://{host}/");
        let variables = [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hunter2"),
        ];
        let (goes_on, words) = missed(container(&around(&variables)));
        assert!(!goes_on && words.contains("must be of https"), "{words}");
    }
}

#[test]
fn an_agent_that_gives_nothing_is_told() {
    for (status, answer, words) in [
        (403, "hunter2", "answered with status 403"),
        (200, "hunter2", "no JSON object"),
        (200, r#"{"SecretAccessKey": "hunter2"}"#, "AccessKeyId is missing"),
        (200, r#"{"AccessKeyId": "AKID", "SecretAccessKey": ""}"#, "SecretAccessKey is missing"),
        (
            200,
            r#"{"AccessKeyId": "AKID", "SecretAccessKey": "hunter2", "Expiration": "soon"}"#,
            "Expiration is no time",
        ),
    ] {
        let server = Server::new(move |_| (status, answer.to_owned()));
        let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url())];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        let (goes_on, told) = missed(container(&around(&variables)));
        assert!(!goes_on && told.contains(words), "{told}");
    }
    assert!(missed(container(&around(&[]))).0);
}

/// The metadata of an instance, as version 2 has it.
fn metadata(role: &'static str, answer: &'static str) -> Server {
    Server::new(move |request| {
        let path = request.split(' ').nth(1).expect("a target");
        let has_token = request.contains("\r\nX-aws-ec2-metadata-token: a-token\r\n");
        match path {
            "/latest/api/token" if request.starts_with("PUT ") => {
                let ttl = "\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n";
                if request.contains(ttl) { (200, "a-token".into()) } else { (400, String::new()) }
            }
            _ if !has_token => (401, String::new()),
            "/latest/meta-data/iam/security-credentials/" if role.is_empty() => {
                (404, "<html>hunter2</html>".into())
            }
            "/latest/meta-data/iam/security-credentials/" => (200, role.into()),
            "/latest/meta-data/iam/security-credentials/shop-role" => (200, answer.into()),
            _ => (404, String::new()),
        }
    })
}

fn instance_of(server: &Server) -> Looked {
    let mut here = around(&[]);
    here.instance = server.url().leak();
    instance(&here)
}

const METADATAS_ANSWER: &str = r#"{"Code": "Success", "Type": "AWS-HMAC",
    "AccessKeyId": "ASIAEC2", "SecretAccessKey": "hunter2", "Token": "token",
    "LastUpdated": "2027-01-15T08:00:00Z", "Expiration": "2027-01-15T09:00:00Z"}"#;

#[test]
fn an_instances_metadata_is_asked_in_version_2() {
    let server = metadata("shop-role\n", METADATAS_ANSWER);
    let expected = message_of("ASIAEC2", "hunter2", Some("token"));
    let looked = instance_of(&server);
    assert_eq!(given(looked), ("ASIAEC2".into(), seconds_from_now(3_600), expected));
    assert_eq!(server.asked().len(), 3);
    let base = format!("{}/", server.url());
    given(instance(&around(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &base)])));
    let mut over_ipv6 = around(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")]);
    over_ipv6.instance_over_ipv6 = server.url().leak();
    given(instance(&over_ipv6));
}

#[test]
fn an_instance_without_role_or_metadata_is_told() {
    let (goes_on, words) = missed(instance_of(&metadata("", "")));
    assert!(goes_on && words.contains("the instance has no role"), "{words}");
    let (_, words) = missed(instance_of(&metadata("../hunter2", "")));
    assert!(words.contains("names no role"), "{words}");
    let broken = r#"{"Code": "AssumeRoleUnauthorizedAccess", "Message": "hunter2"}"#;
    let (goes_on, words) = missed(instance_of(&metadata("shop-role", broken)));
    assert!(!goes_on && words.contains("AssumeRoleUnauthorizedAccess"), "{words}");
    let (_, words) = missed(instance_of(&metadata("shop-role", "hunter2")));
    assert!(words.contains("no JSON object"), "{words}");
    let (_, words) = missed(instance_of(&Server::new(|_| (403, "hunter2".into()))));
    assert!(words.contains("PUT with status 403"), "{words}");
    let off = around(&[("AWS_EC2_METADATA_DISABLED", "True")]);
    assert!(missed(instance(&off)).1.contains("AWS_EC2_METADATA_DISABLED"));
    let (goes_on, words) = missed(instance(&around(&[])));
    assert!(goes_on && words.contains("cannot connect"), "{words}");
}

#[test]
fn times_are_read_as_rfc_3339_has_them() {
    let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", at(0)),
        ("2000-02-29T23:59:59Z", at(951_868_799)),
        ("2027-01-15T08:00:00Z", at(1_800_000_000)),
        ("2027-01-15t08:00:00.123456z", at(1_800_000_000)),
        ("2027-01-15T09:30:00+01:30", at(1_800_000_000)),
        ("2027-01-15 03:00:00-0500", at(1_800_000_000)),
        ("1969-12-31T23:59:59Z", None),
        ("2027-13-15T08:00:00Z", None),
        ("2027-01-15T24:00:00Z", None),
        ("2027-01-15T08:00:00", None),
        ("2027-01-15T08:00:00+1", None),
        ("2027-01-15T08:00:00+1x:00", None),
        ("2027-01-15T08:00:00ü", None),
        ("2027-01-1üT08:00:00Z", None),
        ("+027-01-15T08:00:00Z", None),
        ("", None),
    ] {
        assert_eq!(time(text), expected, "{text}");
    }
}
