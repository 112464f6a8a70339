//! Keeps a local store out of a project's history.
//!
//! The folder ignores itself, whichever repository it comes to lie in. In a repository a
//! line of the project's `.gitignore` says so too, for those who read it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const FILE: &str = ".gitignore";
const OF_THE_FOLDER: &str = "# The local store of 'tenure dev': secrets and their key.\n*\n";

/// What cannot be written is told, and is no reason not to serve.
pub(super) fn by_git(data: &Path) {
    let told = ignore_itself(data).and_then(|()| list_in_project(data));
    match told {
        Ok(None) => {}
        Ok(Some(line)) => tell(&line),
        Err(error) => log::warn!("{} may not be ignored by git: {error}", data.display()),
    }
}

fn tell(line: &str) {
    // It is in the file, whether or not this can be read.
    let _ = writeln!(io::stderr(), "{line}");
}

fn ignore_itself(data: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(data.join(FILE));
    match file {
        Ok(mut file) => file.write_all(OF_THE_FOLDER.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// What was done, if anything.
fn list_in_project(data: &Path) -> io::Result<Option<String>> {
    let data = std::path::absolute(data)?;
    // "./.tenure" is as good a name as ".tenure".
    let data: PathBuf = data.components().collect();
    let (Some(project), Some(name)) = (data.parent(), data.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(None);
    };
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let Some(root) = repository_of(project).filter(|_| plain) else { return Ok(None) };
    let within: Vec<_> =
        project.ancestors().take_while(|folder| folder.starts_with(root)).collect();
    for folder in within {
        let lines = read(&folder.join(FILE))?;
        if lines.lines().any(|line| ignores(line, name, folder == project)) {
            return Ok(None);
        }
    }
    let file = project.join(FILE);
    append(&file, &read(&file)?, &format!("/{name}/"))?;
    Ok(Some(format!("added /{name}/ to {}", file.display())))
}

fn repository_of(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|folder| folder.join(".git").exists())
}

fn read(file: &Path) -> io::Result<String> {
    match fs::read(file) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Whether it is one of the lines that people write for it; another that does the same only
/// makes ours needless.
fn ignores(line: &str, name: &str, beside: bool) -> bool {
    let line = line.trim_end();
    let line = line.strip_suffix("/**").or(line.strip_suffix("/*")).unwrap_or(line);
    let line = line.strip_suffix('/').unwrap_or(line);
    match line.strip_prefix('/') {
        Some(anchored) => beside && anchored == name,
        None => line.strip_prefix("**/").unwrap_or(line) == name,
    }
}

fn append(file: &Path, text: &str, line: &str) -> io::Result<()> {
    let before = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    file.write_all(format!("{before}{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(gitignore: Option<&str>) -> (Option<String>, String) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".git")).unwrap();
        let project = folder.path().join("project");
        fs::create_dir_all(project.join(".tenure")).unwrap();
        if let Some(text) = gitignore {
            fs::write(project.join(FILE), text).unwrap();
        }
        let told = list_in_project(&project.join(".tenure")).unwrap();
        (told, read(&project.join(FILE)).unwrap())
    }

    #[test]
    fn a_line_is_added_once() {
        assert_eq!(listed(None).1, "/.tenure/\n");
        assert_eq!(listed(Some("target")).1, "target\n/.tenure/\n");
        for line in ["/.tenure/", ".tenure", ".tenure/ ", "**/.tenure", "/.tenure", ".tenure/*"] {
            let text = format!("target\n{line}\n");
            assert_eq!(listed(Some(&text)), (None, text), "{line}");
        }
        for line in ["x.tenure", "#.tenure", "!.tenure", "/x/.tenure"] {
            assert!(listed(Some(line)).0.is_some(), "{line}");
        }
    }

    #[test]
    fn what_is_ignored_further_up_or_in_no_repository_needs_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("project/.tenure");
        fs::create_dir_all(&data).unwrap();
        assert_eq!(list_in_project(&data).unwrap(), None);
        fs::create_dir(folder.path().join(".git")).unwrap();
        fs::write(folder.path().join(FILE), ".tenure/\n").unwrap();
        assert_eq!(list_in_project(&data).unwrap(), None);
        fs::write(folder.path().join(FILE), "/.tenure/\n").unwrap();
        assert!(list_in_project(&data).unwrap().is_some());
        // A line is no pattern of a name with its own signs.
        let strange = folder.path().join("[x]");
        fs::create_dir(&strange).unwrap();
        assert_eq!(list_in_project(&strange).unwrap(), None);
    }

    #[test]
    fn the_folder_ignores_itself_and_what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        ignore_itself(folder.path()).unwrap();
        assert_eq!(read(&folder.path().join(FILE)).unwrap(), OF_THE_FOLDER);
        fs::write(folder.path().join(FILE), "theirs").unwrap();
        ignore_itself(folder.path()).unwrap();
        assert_eq!(read(&folder.path().join(FILE)).unwrap(), "theirs");
    }
}
