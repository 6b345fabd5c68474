//! What stays out of a source: `.tsuruignore`, read as git reads `.gitignore`, or for the build of a Dockerfile `.dockerignore`, read as Docker reads it.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;

/// The file for builds on a platform.
const TSURUIGNORE: &str = ".tsuruignore";

/// The file for builds of a Dockerfile.
const DOCKERIGNORE: &str = ".dockerignore";

/// What stays out of a source. Paths are from its top.
#[derive(Debug)]
pub(super) enum Ignored {
    /// What `.tsuruignore` lists.
    Tsuru(Box<Gitignore>),
    /// What `.dockerignore` lists.
    Docker(Dockerignore),
}

/// The lines of a `.dockerignore`.
#[derive(Debug, Default)]
pub(super) struct Dockerignore {
    patterns: Vec<Pattern>,
    /// What stays in whatever they say: without it there is no build.
    always: Vec<PathBuf>,
}

#[derive(Debug)]
struct Pattern {
    matcher: GlobMatcher,
    /// Whether it takes back what those before it left out.
    keeps: bool,
}

impl Ignored {
    /// Reads the file of a directory that is meant for such a build.
    pub(super) fn of(folder: &Path, dockerfile: Option<&str>) -> Result<Self, Failure> {
        let name = if dockerfile.is_some() { DOCKERIGNORE } else { TSURUIGNORE };
        let file = folder.join(name);
        let unreadable = |error: &dyn std::error::Error| {
            Failure::new(Exit::Failed, format!("cannot read `{}`", file.display())).because(error)
        };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(unreadable(&error)),
        };
        Ok(match dockerfile {
            Some(dockerfile) => {
                let mut lines = Dockerignore::read(&text).map_err(|error| unreadable(&error))?;
                // As the paths are that it is compared with: `./Dockerfile` is `Dockerfile`.
                let parts = Path::new(dockerfile).components();
                let dockerfile = parts.filter(|part| *part != Component::CurDir).collect();
                lines.always = vec![dockerfile, DOCKERIGNORE.into()];
                Self::Docker(lines)
            }
            None => {
                let lines = gitignore(&text).map_err(|error| unreadable(&error))?;
                Self::Tsuru(Box::new(lines))
            }
        })
    }

    /// Whether something stays out.
    pub(super) fn leaves_out(&self, path: &Path, is_folder: bool) -> bool {
        match self {
            Self::Tsuru(lines) => lines.matched_path_or_any_parents(path, is_folder).is_ignore(),
            Self::Docker(lines) => lines.leaves_out(path),
        }
    }

    /// Whether something in a folder that stays out may be kept nevertheless.
    pub(super) fn may_keep_below(&self, folder: &Path) -> bool {
        match self {
            // As in git: what is in a folder that is left out cannot be taken back.
            Self::Tsuru(_) => false,
            Self::Docker(lines) => {
                lines.patterns.iter().any(|pattern| pattern.keeps)
                    || lines.always.iter().any(|path| path.starts_with(folder))
            }
        }
    }
}

fn gitignore(text: &str) -> Result<Gitignore, ignore::Error> {
    // A root that is in no path: they are from the top of the source.
    let mut builder = GitignoreBuilder::new("");
    for line in text.trim_start_matches('\u{feff}').lines() {
        builder.add_line(None, line)?;
    }
    builder.build()
}

impl Dockerignore {
    fn read(text: &str) -> Result<Self, globset::Error> {
        let lines = text.trim_start_matches('\u{feff}').lines();
        let lines = lines.filter(|line| !line.starts_with('#')).map(str::trim);
        let patterns = lines.filter_map(|line| Pattern::read(line).transpose());
        Ok(Self { patterns: patterns.collect::<Result<_, _>>()?, always: Vec::new() })
    }

    fn leaves_out(&self, path: &Path) -> bool {
        if self.always.iter().any(|always| always == path) {
            return false;
        }
        let last = self.patterns.iter().rev().find(|pattern| pattern.is_of(path));
        last.is_some_and(|pattern| !pattern.keeps)
    }
}

impl Pattern {
    /// Reads a line; none when it says nothing.
    fn read(line: &str) -> Result<Option<Self>, globset::Error> {
        let (line, keeps) = match line.strip_prefix('!') {
            Some(rest) => (rest.trim(), true),
            None => (line, false),
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in line.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part == ".." {
                parts.pop();
            } else {
                parts.push(part);
            }
        }
        if parts.is_empty() {
            return Ok(None);
        }
        // Braces are nothing special to Docker.
        let glob = parts.join("/").replace('{', "[{]").replace('}', "[}]");
        let glob =
            GlobBuilder::new(&glob).literal_separator(true).backslash_escape(true).build()?;
        Ok(Some(Self { matcher: glob.compile_matcher(), keeps }))
    }

    /// Whether it is about a path, or about a folder that the path is in.
    fn is_of(&self, path: &Path) -> bool {
        path.ancestors().any(|path| path != Path::new("") && self.matcher.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(ignored: &Ignored, paths: &[&'static str]) -> Vec<&'static str> {
        let is_out = |path: &&&str| {
            let name = path.trim_end_matches('/');
            ignored.leaves_out(Path::new(name), name.len() < path.len())
        };
        paths.iter().filter(is_out).copied().collect()
    }

    #[test]
    fn a_dockerignore_is_read_as_docker_reads_it() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("", &["a"], &[]),
            ("# a\n\n  \n.\n", &["a", "# a"], &[]),
            // From the top, unlike git.
            ("*.log", &["a.log", "sub/a.log"], &["a.log"]),
            (
                "**/*.log",
                &["a.log", "sub/a.log", "sub/deep/a.log"],
                &["a.log", "sub/a.log", "sub/deep/a.log"],
            ),
            ("/target", &["target", "target/a", "sub/target"], &["target", "target/a"]),
            ("./a/../b/", &["a", "b", "b/c"], &["b", "b/c"]),
            ("*/temp*", &["temp", "sub/temporary", "sub/deep/temp"], &["sub/temporary"]),
            ("temp?", &["temp", "tempa", "tempab"], &["tempa"]),
            ("docs\n!docs/README.md", &["docs/a.md", "docs/README.md"], &["docs/a.md"]),
            ("*\n!src", &["a", "src/main.c"], &["a"]),
            ("!a\na", &["a"], &["a"]),
            ("{a,b}", &["a", "{a,b}"], &["{a,b}"]),
        ];
        for (text, paths, out) in table {
            let ignored = Ignored::Docker(Dockerignore::read(text).unwrap());
            assert_eq!(left_out(&ignored, paths), *out, "{text:?}");
        }
        assert!(Dockerignore::read("[a").is_err());
    }

    #[test]
    fn the_dockerfile_is_sent_whatever_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(DOCKERIGNORE), "*\n").unwrap();
        let ignored = Ignored::of(folder.path(), Some("docker/Dockerfile")).unwrap();
        let paths = ["docker/Dockerfile", ".dockerignore", "docker/other", "Dockerfile"];
        assert_eq!(left_out(&ignored, &paths), ["docker/other", "Dockerfile"]);
        for same in ["./docker/Dockerfile", "docker/./Dockerfile", "././docker//Dockerfile"] {
            let ignored = Ignored::of(folder.path(), Some(same)).unwrap();
            assert_eq!(left_out(&ignored, &paths), ["docker/other", "Dockerfile"], "{same}");
        }
        assert!(ignored.may_keep_below(Path::new("docker")));
        assert!(!ignored.may_keep_below(Path::new("src")));
    }

    #[test]
    fn a_tsuruignore_is_read_as_git_reads_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let none = Ignored::of(folder.path(), None).unwrap();
        assert_eq!(left_out(&none, &["a"]), [""; 0]);
        std::fs::write(folder.path().join(TSURUIGNORE), "*.log\n!keep.log\n/target/\n").unwrap();
        let ignored = Ignored::of(folder.path(), None).unwrap();
        let paths = ["a.log", "sub/a.log", "keep.log", "target/", "target/a", "sub/target/", "a"];
        assert_eq!(left_out(&ignored, &paths), ["a.log", "sub/a.log", "target/", "target/a"]);
        // It is for builds on a platform.
        let docker = Ignored::of(folder.path(), Some("Dockerfile")).unwrap();
        assert_eq!(left_out(&docker, &paths), [""; 0]);
    }
}
