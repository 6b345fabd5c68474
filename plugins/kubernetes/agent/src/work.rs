//! The work in the container of the platform's image: the source is unpacked, the platform's and the app's own commands run, and what they changed becomes a layer.
//!
//! Whatever runs here knows no password and no registry: those are in the container next door.

use std::io::{self, BufWriter, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gantry_core::yaml::{FOLDERS, PROCFILE_NAMES, TsuruYaml, YAML_NAMES};

use crate::archive::{self, Bounds};
use crate::error::{Doing as _, Result, build};
use crate::layer;
use crate::link::{Files, Message, Said, Speaker};
use crate::snapshot::{self, Snapshot};

/// Where the source of an app is.
const SOURCE: &str = "home/application/current";

/// A file for the platform is not longer; nobody writes one by hand that is. Two of them fit into a message, even when each of their bytes is written as six there.
const LONGEST_FILE: u64 = 64 << 10;

/// How long it is waited for the last words of a command that has ended. What it left running may hold the pipe for ever.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Makes a layer of an app's source; this is the platform's own command for that, when the image has it.
    Build {
        /// The program, perhaps with arguments.
        command: String,
    },
    /// Tells which files the image has for the platform.
    Look,
}

/// Where it is done.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The root of the file system.
    pub(crate) root: PathBuf,
    /// The folder that the container next door sees too.
    pub(crate) shared: PathBuf,
}

/// Does the work, and tells the other end of the connection how it goes. Gives whether it went well.
///
/// # Errors
///
/// Nobody listens.
pub(crate) fn run(
    work: &Work,
    place: &Place,
    connect: impl FnOnce() -> Result<UnixStream>,
) -> Result<bool> {
    // Before anything else comes in: this takes a moment, and nobody waits for it yet.
    let before = match work {
        Work::Build { .. } => Some(look_around(place)?),
        Work::Look => None,
    };
    let stream = connect()?;
    let speaker = Speaker::new(&stream)?;
    let done = match (work, before) {
        (Work::Build { command }, Some(before)) => make(command, place, before, &stream, &speaker),
        (Work::Build { .. } | Work::Look, _) => files(place),
    };
    let message = match done {
        Ok(files) => Message::Done(files),
        Err(error) => Message::Failed(error.to_string()),
    };
    speaker.say(&message).doing(|| "nobody listens to the build".to_owned())?;
    Ok(matches!(message, Message::Done(_)))
}

fn look_around(place: &Place) -> Result<Snapshot> {
    let mut without = snapshot::mounts()?;
    without.extend(place.shared.strip_prefix(&place.root).map(Path::to_owned));
    Snapshot::take(&place.root, &without)
}

fn make(
    command: &str,
    place: &Place,
    before: Snapshot,
    archive: &UnixStream,
    speaker: &Speaker,
) -> Result<Files> {
    let kept = place.shared.join("archive.tar.gz");
    if !archive::keep(archive, &kept, Bounds::default())? {
        return Err(build("nothing was sent to be built"));
    }
    let folder = place.root.join(SOURCE);
    archive::unpack(&kept, &folder, Bounds::default())?;
    // The platform's command may change them, but what nobody can read is told before it takes its time.
    files(place)?;
    let program = command.split_whitespace().next().unwrap_or_default();
    if Path::new(program).is_absolute() && Path::new(program).exists() {
        shell(&format!("{command} archive file://{}", kept.display()), place, speaker)?;
    }
    // It may be large, and nobody needs it any more.
    std::fs::remove_file(&kept).doing(|| "cannot remove the archive".to_owned())?;
    let files = files(place)?;
    let yaml = TsuruYaml::from_yaml(&files.yaml).map_err(|error| build(error.to_string()))?;
    for hook in &yaml.hooks.build {
        tell(speaker, &format!(" ---> Running {hook}\n"));
        shell(hook, place, speaker)?;
    }
    let changes = layer::changes(&before, &look_around(place)?);
    // Two file systems were in memory to be compared; the layer is written without them.
    drop(before);
    tell(speaker, &format!(" ---> {} paths have changed\n", changes.len()));
    let said = Said { by: speaker, as_what: Message::Layer };
    layer::write(&place.root, &changes, BufWriter::with_capacity(64 << 10, said))?;
    Ok(files)
}

/// Says something to whoever watches. That he has gone shows when the work is done.
fn tell(speaker: &Speaker, text: &str) {
    let _gone = speaker.say(&Message::Output(text.as_bytes().to_vec()));
}

/// Runs a line in the shell of the image, in the folder of the source, and says what it says.
///
/// # Errors
///
/// There is no shell, or the line does not end well.
fn shell(line: &str, place: &Place, speaker: &Speaker) -> Result<()> {
    let mut child = Command::new("/bin/sh")
        .args(["-lc", line])
        .current_dir(place.root.join(SOURCE))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .doing(|| format!("`{line}` cannot run"))?;
    let said = listen(&mut child, speaker);
    let status = child.wait().doing(|| format!("nobody knows how `{line}` ended"))?;
    // What it left running would change the files while they are looked at.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    // Each end says that it has come to its end; what holds one open longer was told to go.
    while said.recv_timeout(LAST_WORDS).is_ok() {}
    if status.success() { Ok(()) } else { Err(build(format!("`{line}` {}", ended(status)))) }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with {code}"),
        (None, Some(signal)) => format!("was ended by the signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Says what a child says. What is given back hears of each end, and is closed after the last.
fn listen(child: &mut Child, speaker: &Speaker) -> Receiver<()> {
    let (ended, said) = channel();
    let stdout = child.stdout.take().map(|end| Box::new(end) as Box<dyn Read + Send>);
    let stderr = child.stderr.take().map(|end| Box::new(end) as Box<dyn Read + Send>);
    for mut end in [stdout, stderr].into_iter().flatten() {
        let (speaker, ended) = (speaker.clone(), ended.clone());
        std::thread::spawn(move || {
            let _gone = io::copy(&mut end, &mut Said { by: &speaker, as_what: Message::Output });
            let _gone = ended.send(());
        });
    }
    said
}

/// The first of each kind of file that is there.
fn files(place: &Place) -> Result<Files> {
    let read = |names: &[&str]| {
        let folders = FOLDERS.iter().map(|folder| place.root.join(folder.trim_start_matches('/')));
        let mut all = folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)));
        match all.find(|file| file.is_file()) {
            Some(file) => text(&file),
            None => Ok(String::new()),
        }
    };
    Ok(Files { procfile: read(&PROCFILE_NAMES)?, yaml: read(&YAML_NAMES)? })
}

fn text(file: &Path) -> Result<String> {
    let reading = || format!("cannot read `{}`", file.display());
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).doing(reading)?;
    opened.take(LONGEST_FILE.saturating_add(1)).read_to_end(&mut bytes).doing(reading)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(build(format!("`{}` is longer than {LONGEST_FILE} bytes", file.display())));
    }
    String::from_utf8(bytes).map_err(|_| build(format!("`{}` is not a text", file.display())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::net::Shutdown;
    use std::thread;

    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// What came of a build.
    struct Seen {
        output: String,
        layer: Vec<String>,
        last: Message,
    }

    /// A platform's image, with these files in it.
    struct Platform(tempfile::TempDir);

    impl Platform {
        fn new(files: &[(&str, &str)]) -> Self {
            let platform = Self(tempfile::tempdir().unwrap());
            for (name, text) in files {
                let file = platform.0.path().join("root").join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, text).unwrap();
                use std::os::unix::fs::PermissionsExt as _;
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            }
            fs::create_dir_all(platform.0.path().join("root/tmp/shared")).unwrap();
            platform
        }

        fn place(&self) -> Place {
            let root = self.0.path().join("root");
            Place { shared: root.join("tmp/shared"), root }
        }

        fn work(&self, work: Work, sent: &[u8]) -> Seen {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let place = self.place();
            let working = thread::spawn(move || run(&work, &place, || Ok(theirs)));
            let mut end = ours.try_clone().unwrap();
            let sent = sent.to_vec();
            let sending = thread::spawn(move || {
                // One who refuses does not read to the end.
                let _gone = end.write_all(&sent);
                let _gone = end.shutdown(Shutdown::Write);
            });
            let (mut output, mut archive, mut last) = (Vec::new(), Vec::new(), None);
            while let Some(message) = Message::read(&mut ours).unwrap() {
                match message {
                    Message::Output(bytes) => output.extend(bytes),
                    Message::Layer(bytes) => archive.extend(bytes),
                    message @ (Message::Done(_) | Message::Failed(_)) => last = Some(message),
                }
            }
            sending.join().unwrap();
            let last = last.unwrap();
            let well = working.join().unwrap().unwrap();
            assert_eq!(well, matches!(last, Message::Done(_)));
            let mut layer = Vec::new();
            for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
                layer.push(entry.unwrap().path().unwrap().display().to_string());
            }
            Seen { output: String::from_utf8(output).unwrap(), layer, last }
        }

        fn build(&self, files: &[(&str, &str)]) -> Seen {
            let command = format!("{}/deploy with", self.place().root.display());
            self.work(Work::Build { command }, &archive(files))
        }
    }

    fn failure(seen: &Seen) -> &str {
        match &seen.last {
            Message::Failed(why) => why,
            Message::Done(_) | Message::Output(_) | Message::Layer(_) => panic!("{:?}", seen.last),
        }
    }

    #[test]
    fn the_source_is_unpacked_and_its_hooks_run_in_it() {
        let platform = Platform::new(&[("home/application/current/old", ""), ("etc/os", "")]);
        let yaml = "hooks:\n  build:\n    - echo one; echo two >&2\n    - printf made >made; rm ../../../etc/os\n";
        let seen = platform.build(&[("tsuru.yaml", yaml), ("Procfile", "web: run\n")]);
        let files = Files { procfile: "web: run\n".to_owned(), yaml: yaml.to_owned() };
        assert_eq!(seen.last, Message::Done(files), "{}", seen.output);
        for line in [
            " ---> Running echo one; echo two >&2\n",
            "one\n",
            "two\n",
            " ---> 5 paths have changed\n",
        ] {
            assert!(seen.output.contains(line), "{}", seen.output);
        }
        assert_eq!(
            seen.layer,
            [
                "etc/.wh.os",
                "home/application/current/Procfile",
                "home/application/current/made",
                "home/application/current/.wh.old",
                "home/application/current/tsuru.yaml",
            ]
        );
        assert!(!platform.place().shared.join("archive.tar.gz").exists());
    }

    #[test]
    fn the_platforms_own_command_gets_the_archive_and_runs_before_the_hooks() {
        let root = "#!/bin/sh\necho \"called with $1 $2\"; gzip -dc \"${3#file://}\" | tar -tf -; touch built\n";
        let platform = Platform::new(&[("deploy", root)]);
        let yaml = "hooks: {build: ['test -e built && echo after']}";
        let seen = platform.build(&[("app.yml", yaml), ("main", "")]);
        assert!(matches!(seen.last, Message::Done(_)), "{:?} {}", seen.last, seen.output);
        let own = "called with with archive\napp.yml\nmain\n ---> Running ";
        assert!(
            seen.output.starts_with(own) && seen.output.contains("\nafter\n"),
            "{}",
            seen.output
        );
        let built = "home/application/current/built".to_owned();
        assert!(seen.layer.contains(&built), "{:?}", seen.layer);
    }

    #[test]
    fn a_command_that_fails_ends_the_build_and_says_its_last_words() {
        for (hook, why) in [
            ("echo last words; exit 3", "ended with 3"),
            ("kill -9 $$", "was ended by the signal 9"),
            ("no-such-program", "ended with 127"),
        ] {
            let yaml = format!("hooks:\n  build:\n    - {hook}\n    - echo never\n");
            let seen = Platform::new(&[]).build(&[("tsuru.yaml", &yaml)]);
            assert_eq!(failure(&seen), format!("`{hook}` {why}"));
            assert!(!seen.output.contains("Running echo never") && seen.layer.is_empty());
            assert_eq!(seen.output.contains("\nlast words\n"), hook.starts_with("echo"));
        }
    }

    #[test]
    fn what_a_command_leaves_running_keeps_nobody_waiting() {
        let yaml = "hooks:\n  build:\n    - sleep 1000 & echo gone on\n";
        let seen = Platform::new(&[]).build(&[("tsuru.yaml", yaml)]);
        assert!(matches!(seen.last, Message::Done(_)), "{:?}", seen.last);
        assert!(seen.output.contains("gone on\n"));
    }

    #[test]
    fn a_source_that_cannot_be_built_is_told_and_makes_no_layer() {
        let whole = archive(&[("a", "b")]);
        let odd = archive(&[("tsuru.yaml", "hooks: [")]);
        let build = || Work::Build { command: String::new() };
        for (sent, why) in [
            (&whole[..0], "nothing was sent to be built"),
            (&whole[..700], "the archive is damaged: "),
            (&odd, "invalid tsuru.yaml: "),
        ] {
            let seen = Platform::new(&[]).work(build(), sent);
            assert!(failure(&seen).starts_with(why), "{}", failure(&seen));
            assert!(seen.layer.is_empty());
        }
    }

    #[test]
    fn a_file_for_the_platform_that_is_too_long_is_told_before_anything_runs() {
        let yaml = format!("hooks: {{build: [echo hook]}}\n{}", "# more\n".repeat(50_000));
        let platform = Platform::new(&[("deploy", "#!/bin/sh\necho platform\n")]);
        let seen = platform.build(&[("tsuru.yaml", &yaml)]);
        assert!(
            failure(&seen).ends_with("tsuru.yaml` is longer than 65536 bytes"),
            "{:?}",
            seen.last
        );
        assert_eq!((seen.output.as_str(), seen.layer), ("", vec![]));
    }

    #[test]
    fn files_of_the_greatest_length_are_told_whatever_is_in_them() {
        let longest = usize::try_from(LONGEST_FILE).unwrap();
        // Nothing is longer in a message than this.
        let procfile = "\u{1}".repeat(longest);
        let files = Files { yaml: procfile.clone(), procfile };
        let platform = Platform::new(&[("Procfile", &files.procfile), ("app.yml", &files.yaml)]);
        assert_eq!(platform.work(Work::Look, b"").last, Message::Done(files));
    }

    #[test]
    fn an_image_is_looked_into_without_anything_being_sent() {
        let platform = Platform::new(&[("app/user/Procfile", "web: x"), ("tsuru.yml", "a: b")]);
        let seen = platform.work(Work::Look, b"");
        let files = Files { procfile: "web: x".to_owned(), yaml: "a: b".to_owned() };
        assert_eq!(
            (seen.last, seen.layer, seen.output.as_str()),
            (Message::Done(files), vec![], "")
        );
        let seen = Platform::new(&[]).work(Work::Look, b"");
        assert_eq!(seen.last, Message::Done(Files::default()));
    }
}
