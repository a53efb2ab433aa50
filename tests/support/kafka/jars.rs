//! The programs: a release's jars from Maven, this folder's Java programs compiled against them,
//! and the logging settings. All of it is made once and kept in `<target>/kafka/<version>/`, shared
//! by every test binary and every run; nothing is asked of the network when it is there.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::process;
use super::release::{EXCLUDED, Logging, Release};

/// The oldest Java that Kafka 4's brokers run on. Older releases run on it as well.
const JAVA_VERSION_MIN: u32 = 17;

/// 13 s measured with an empty Maven repository; the network decides. What an attempt has brought
/// stays in that repository, so the next one goes on from there.
const MAVEN_LIMIT: Duration = Duration::from_secs(150);
const MAVEN_ATTEMPTS: usize = 3;
/// Maven itself waits for half an hour on a connection that has stalled.
const MAVEN_PATIENCE: [&str; 3] = [
    "-Dmaven.wagon.rto=30000",
    "-Daether.connector.connectTimeout=10000",
    "-Daether.connector.requestTimeout=30000",
];
/// After all attempts have failed, for one release, none is made for another within this time: ten
/// releases would wait for the same network, one after the other.
const MAVEN_PAUSE: Duration = Duration::from_secs(900);
const JAVAC_LIMIT: Duration = Duration::from_secs(60);

const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId>
  <artifactId>kafka-jars</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
@DEPENDENCIES@  </dependencies>
</project>
"#;

const LOG4J_2: &str = "appender.c.type=Console\n\
    appender.c.name=C\n\
    appender.c.target=@TARGET@\n\
    appender.c.layout.type=PatternLayout\n\
    appender.c.layout.pattern=[%d] %p %m (%c)%n\n\
    rootLogger.level=@LEVEL@\n\
    rootLogger.appenderRef.c.ref=C\n";

const LOG4J_1: &str = "log4j.rootLogger=@LEVEL@, C\n\
    log4j.appender.C=org.apache.log4j.ConsoleAppender\n\
    log4j.appender.C.Target=@TARGET@\n\
    log4j.appender.C.layout=org.apache.log4j.PatternLayout\n\
    log4j.appender.C.layout.ConversionPattern=[%d] %p %m (%c)%n\n";

/// A release of Kafka, and Java, ready to run.
#[derive(Debug)]
pub struct Install {
    release: &'static Release,
    root: PathBuf,
    jars: Vec<PathBuf>,
    classes: PathBuf,
    broker_logging: PathBuf,
    tool_logging: PathBuf,
    java_id: String,
    archive: OnceLock<Option<PathBuf>>,
}

impl Install {
    /// Finds or makes everything. An error says what is missing on this machine.
    pub fn prepare(release: &'static Release) -> Result<Self, String> {
        let java_id = java_id()?;
        let root = target_folder().join("kafka").join(release.version);
        let problem = |error: io::Error| format!("{}: {error}", root.display());
        fs::create_dir_all(&root).map_err(problem)?;
        let lock = File::create(root.join("lock")).map_err(problem)?;
        lock.lock().map_err(problem)?;
        let jars = jars(&root, release)?;
        let classes = classes(&root, release.programs, &jars, &java_id)?;
        let logging = |level, error| logging(&root, release.logging, level, error);
        let broker_logging = logging("INFO", false).map_err(problem)?;
        let tool_logging = logging("ERROR", true).map_err(problem)?;
        let archive = OnceLock::new();
        Ok(Self { release, root, jars, classes, broker_logging, tool_logging, java_id, archive })
    }

    /// What is installed.
    pub fn release(&self) -> &'static Release {
        self.release
    }

    /// The arguments of `java` for a broker, a controller or a class of Kafka: what follows is
    /// the main class or further options. `temporary` takes what a killed process leaves behind.
    pub fn broker_arguments(&self, heap: &str, temporary: &Path) -> Vec<String> {
        let mut arguments = self.arguments(heap, &self.broker_logging, temporary);
        arguments.extend(["-cp".to_owned(), join_path(&self.jars)]);
        arguments
    }

    /// The arguments of `java` for one of this folder's programs, which log errors only, to
    /// standard error. `temporary` is as for a broker.
    pub fn tool_arguments(&self, heap: &str, temporary: &Path) -> Vec<String> {
        let mut arguments = self.arguments(heap, &self.tool_logging, temporary);
        // The archive of the broker's classes serves a class path that begins with the broker's.
        let class_path = format!("{}:{}", join_path(&self.jars), self.classes.display());
        arguments.extend(["-cp".to_owned(), class_path]);
        arguments
    }

    fn arguments(&self, heap: &str, logging: &Path, temporary: &Path) -> Vec<String> {
        let mut arguments: Vec<String> = [
            "-Xms64m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-XX:-UsePerfData",
            // The virtual machine's own warnings belong in the log, not in a tool's output.
            "-Xlog:disable",
            "-Xlog:all=warning:stderr",
        ]
        .map(str::to_owned)
        .into();
        arguments.push(format!("-Xmx{heap}"));
        arguments.push(match self.release.logging {
            Logging::Log4j1 => format!("-Dlog4j.configuration=file:{}", logging.display()),
            Logging::Log4j2 => format!("-Dlog4j2.configurationFile={}", logging.display()),
        });
        // Codecs unpack their native libraries here, and remove them only at an orderly end.
        arguments.push(format!("-Djava.io.tmpdir={}", temporary.display()));
        if let Some(archive) = self.archive.get().and_then(Option::as_ref) {
            arguments.push(format!("-XX:SharedArchiveFile={}", archive.display()));
        }
        arguments
    }

    /// Sets the archive of the broker's loaded classes (AppCDS), which more than halves the time
    /// a node takes to start. `make` is called once for a cache folder, with the file to write;
    /// where it fails, nodes start without an archive, here and in later runs.
    pub fn use_archive(&self, make: impl FnOnce(&Path) -> Result<(), String>) {
        self.archive.get_or_init(|| {
            let name = format!("broker-{:016x}", hash_of(&(&self.java_id, &self.jars)));
            let archive = self.root.join(format!("{name}.jsa"));
            let failed = self.root.join(format!("{name}.failed"));
            let lock = File::create(self.root.join("archive-lock")).ok()?;
            lock.lock().ok()?;
            if archive.exists() {
                return Some(archive);
            }
            if failed.exists() {
                return None;
            }
            let partial = self.root.join(format!("{name}.partial.jsa"));
            let made = make(&partial).and_then(|()| {
                fs::rename(&partial, &archive).map_err(|error| format!("no archive: {error}"))
            });
            if let Err(reason) = made {
                eprintln!("kafka: brokers start without a class archive: {reason}");
                // Without the note the next run only tries again.
                let _ = fs::write(failed, reason);
                return None;
            }
            Some(archive)
        });
    }
}

/// Cargo's target folder, whichever way it was set.
pub fn target_folder() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().expect("cargo's folder for tests lies in the target folder").to_owned()
}

/// The text by which this Java names itself; an error where it is missing or too old.
fn java_id() -> Result<String, String> {
    let output = Command::new("java").arg("-version").output();
    let output = output.map_err(|error| format!("java is not installed ({error})"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = text.split('"').nth(1).unwrap_or_default();
    let major = version.split(['.', '-', '+']).next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major >= JAVA_VERSION_MIN => Ok(text),
        _ => Err(format!("Kafka needs Java {JAVA_VERSION_MIN}, this is {version:?}")),
    }
}

/// An error where a program is missing that is needed only until the cache is filled.
fn require(program: &str, what: &str) -> Result<(), String> {
    let output = Command::new(program).arg("-version").output();
    let found = output.is_ok_and(|output| output.status.success());
    if found { Ok(()) } else { Err(format!("{what} is not installed ({program})")) }
}

/// The jars in sorted order: the archive of classes holds for this very class path.
fn jars(root: &Path, release: &Release) -> Result<Vec<PathBuf>, String> {
    let pom = pom_of(release);
    let folder = root.join(format!("jars-{:016x}", hash_of(&pom)));
    if !folder.exists() {
        fetch_jars(root, release, &pom, &folder)?;
    }
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut jars: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "jar"))
        .collect();
    jars.sort();
    Ok(jars)
}

/// Lets Maven copy the jars into a temporary folder, which gets its name only when complete.
fn fetch_jars(root: &Path, release: &Release, pom: &str, folder: &Path) -> Result<(), String> {
    require("mvn", "Maven, which fetches Kafka's jars,")?;
    let scratch = tempfile::Builder::new().prefix("fetch-").tempdir_in(root);
    let scratch = scratch.map_err(|error| format!("{}: {error}", root.display()))?;
    let pom_file = scratch.path().join("pom.xml");
    fs::write(&pom_file, pom).map_err(|error| error.to_string())?;
    let output = scratch.path().join("jars");
    let log = root.join("maven.log");
    let fetch = |offline: Option<&str>| {
        let mut arguments = vec!["-q".to_owned(), "-B".to_owned()];
        arguments.extend(MAVEN_PATIENCE.map(str::to_owned));
        arguments.extend(offline.map(str::to_owned));
        arguments.extend(["-f".to_owned(), pom_file.display().to_string()]);
        arguments.push("dependency:copy-dependencies".to_owned());
        arguments.push("-DincludeScope=runtime".to_owned());
        arguments.push(format!("-DoutputDirectory={}", output.display()));
        process::run("mvn", arguments, &log, MAVEN_LIMIT)
    };
    // Maven's own repository may have everything: then no network is needed.
    if fetch(Some("-o")).is_err() {
        let failed = root.with_file_name("maven-failed");
        let modified = fs::metadata(&failed).and_then(|it| it.modified()).ok();
        if let Some(age) = modified.and_then(|at| at.elapsed().ok())
            && age < MAVEN_PAUSE
        {
            let failed = failed.display();
            return Err(format!(
                "no jars: Maven failed {age:.0?} ago, for this or another release; {failed} is \
                 the note of that, and without it the next run tries again"
            ));
        }
        let mut attempt = fetch(None);
        for _ in 1..MAVEN_ATTEMPTS {
            attempt = attempt.or_else(|_| fetch(None));
        }
        if let Err(error) = attempt {
            // Without the note the next release only waits as well.
            let _ = fs::write(failed, &error);
            return Err(format!("no jars: {error}"));
        }
    }
    let files = release.jars.iter().map(|jar| output.join(Release::file_of(jar)));
    if let Some(missing) = files.into_iter().find(|file| !file.exists()) {
        return Err(format!("Maven brought no {}", missing.display()));
    }
    fs::rename(&output, folder).map_err(|error| format!("{}: {error}", folder.display()))
}

fn pom_of(release: &Release) -> String {
    let excluded: String = EXCLUDED.iter().map(|jar| element("exclusion", jar)).collect();
    let dependency = |jar: &&str| {
        let end = format!("<exclusions>{excluded}</exclusions></dependency>\n");
        element("dependency", jar).replace("</dependency>", &end)
    };
    POM.replace("@DEPENDENCIES@", &release.jars.iter().map(dependency).collect::<String>())
}

/// Coordinates as Maven's pom has them.
fn element(name: &str, coordinates: &str) -> String {
    let parts = ["groupId", "artifactId", "version"].into_iter().zip(coordinates.split(':'));
    let parts: String = parts.map(|(part, value)| format!("<{part}>{value}</{part}>")).collect();
    format!("<{name}>{parts}</{name}>")
}

/// Compiles this folder's programs, unless the same sources were compiled by the same Java.
fn classes(
    root: &Path,
    programs: &[(&str, &str)],
    jars: &[PathBuf],
    java_id: &str,
) -> Result<PathBuf, String> {
    let folder = root.join(format!("classes-{:016x}", hash_of(&(programs, java_id))));
    if folder.exists() || programs.is_empty() {
        return Ok(folder);
    }
    require("javac", "the Java compiler")?;
    let scratch = tempfile::Builder::new().prefix("javac-").tempdir_in(root);
    let scratch = scratch.map_err(|error| format!("{}: {error}", root.display()))?;
    let output = scratch.path().join("classes");
    let release = JAVA_VERSION_MIN.to_string();
    let mut arguments: Vec<String> =
        ["--release", &release, "-cp", &join_path(jars), "-d"].map(str::to_owned).into();
    arguments.push(output.display().to_string());
    for (name, source) in programs {
        let file = scratch.path().join(name);
        fs::write(&file, source).map_err(|error| error.to_string())?;
        arguments.push(file.display().to_string());
    }
    process::run("javac", arguments, &root.join("javac.log"), JAVAC_LIMIT)?;
    fs::rename(&output, &folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Settings that log what is of this level or above, to standard output or standard error.
fn logging(root: &Path, logging: Logging, level: &str, error: bool) -> io::Result<PathBuf> {
    let name = if error { "tool" } else { "broker" };
    let (file, text, target) = match logging {
        Logging::Log4j1 => ("log4j", LOG4J_1, if error { "System.err" } else { "System.out" }),
        Logging::Log4j2 => ("log4j2", LOG4J_2, if error { "SYSTEM_ERR" } else { "SYSTEM_OUT" }),
    };
    let file = root.join(format!("{name}-{file}.properties"));
    let text = text.replace("@LEVEL@", level).replace("@TARGET@", target);
    // A file that another process's broker may be reading is replaced only when it differs.
    if fs::read_to_string(&file).ok().as_deref() != Some(text.as_str()) {
        fs::write(&file, text)?;
    }
    Ok(file)
}

fn join_path(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(":")
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
