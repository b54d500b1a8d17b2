//! Which directories and files can tell that a path leads somewhere else now.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Places to watch, by device and inode: the same directory reached on two ways is one place,
/// and a directory that was replaced is another.
pub(super) type Places = BTreeMap<(u64, u64), PathBuf>;

/// As many links as the kernel follows.
const LINKS: u32 = 40;

/// Adds every place on the way to `path`: the directory of each symbolic link and of the file,
/// the directory above each of those, since they may be replaced whole, and the file itself.
/// Where the way ends early, the place it ends at.
pub(super) fn trace(path: &Path, places: &mut Places) {
    let Ok(absolute) = std::path::absolute(path) else { return };
    let mut ahead = steps(&absolute);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(step) = ahead.pop() {
        let next = match step {
            Step::Root => PathBuf::from("/"),
            Step::Up => here.parent().unwrap_or(Path::new("/")).to_owned(),
            Step::Down(name) => here.join(name),
        };
        let Ok(meta) = next.symlink_metadata() else { break };
        if !meta.is_symlink() {
            here = next;
            continue;
        }
        add_with_parent(&here, places);
        links += 1;
        let Ok(target) = next.read_link() else { break };
        if LINKS < links {
            break;
        }
        ahead.append(&mut steps(&target));
    }
    add(&here, places);
    if let Some(parent) = here.parent() {
        add_with_parent(parent, places);
    }
}

enum Step {
    Root,
    Up,
    Down(OsString),
}

/// The steps of a path, the first one last.
fn steps(path: &Path) -> Vec<Step> {
    let step = |component| match component {
        Component::RootDir => Some(Step::Root),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(step).collect()
}

fn add_with_parent(dir: &Path, places: &mut Places) {
    add(dir, places);
    if let Some(parent) = dir.parent() {
        add(parent, places);
    }
}

fn add(path: &Path, places: &mut Places) {
    if let Ok(meta) = path.metadata() {
        places.entry((meta.dev(), meta.ino())).or_insert_with(|| path.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn traced(path: &Path) -> Vec<PathBuf> {
        let mut places = Places::new();
        trace(path, &mut places);
        places.into_values().collect()
    }

    #[test]
    fn every_link_on_the_way_adds_its_directory_and_the_one_above() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path().canonicalize().expect("canonical");
        for name in ["etc/conf", "opt/v1", "data/real"] {
            fs::create_dir_all(root.join(name)).expect("dirs");
        }
        fs::write(root.join("data/real/p.toml"), "").expect("file");
        symlink("../../data/real/p.toml", root.join("opt/v1/p.toml")).expect("link");
        symlink(root.join("opt/v1"), root.join("etc/conf/current")).expect("link");
        let places = traced(&root.join("etc/conf/current/p.toml"));
        for name in ["etc", "etc/conf", "opt", "opt/v1", "data", "data/real", "data/real/p.toml"] {
            assert!(places.contains(&root.join(name)), "{name} in {places:?}");
        }
    }

    #[test]
    fn an_absent_file_leads_to_the_nearest_directory_there_is() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path().canonicalize().expect("canonical");
        assert!(traced(&root.join("not/yet/p.toml")).contains(&root));
    }

    #[test]
    fn a_circle_of_links_ends() {
        let dir = tempfile::tempdir().expect("tempdir");
        symlink("b", dir.path().join("a")).expect("link");
        symlink("a", dir.path().join("b")).expect("link");
        assert!(!traced(&dir.path().join("a")).is_empty());
    }
}
