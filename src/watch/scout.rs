//! One look at everything: where the paths lead now, and what the files hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use tokio::sync::Notify;

use crate::core::ordered::Gather as _;
use crate::watch::event::{SourceEvent, WatchMode};
use crate::watch::hops::{Places, trace};
use crate::watch::lookup::Seen;
use crate::watch::native::Native;
use crate::watch::read::Digest;
use crate::watch::sight::{Glance, Look, PolicySight, SecretSight};

/// The secret files to watch, with what is known of them: `None` where nothing is.
pub(super) type Extra = BTreeMap<PathBuf, Option<Option<Digest>>>;

/// Says of all of them what was seen.
pub(super) fn known(seen: Seen) -> Extra {
    seen.into_iter().map(|(path, digest)| (path, Some(digest))).gather_map()
}

/// Everything that outlives one look.
#[derive(Debug)]
pub(super) struct Scout {
    policy: PolicySight,
    secrets: BTreeMap<PathBuf, SecretSight>,
    native: Native,
    mode: Option<(WatchMode, Option<String>)>,
    mount: Mount,
}

/// What a look brought.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// In the order to tell them.
    pub(super) events: Vec<SourceEvent>,
    /// Whether bad news was held back: look again soon.
    pub(super) again: bool,
}

impl Scout {
    pub(super) fn new(policy: PathBuf, hint: Arc<Notify>) -> Self {
        Self {
            policy: PolicySight::new(policy),
            secrets: BTreeMap::new(),
            native: Native::new(hint),
            mode: None,
            mount: Mount::default(),
        }
    }

    /// Replaces the set of secret files. What is known of those that stay is kept.
    pub(super) fn watch_secrets(&mut self, extra: &Extra) {
        let mut before = std::mem::take(&mut self.secrets);
        for (path, seen) in extra {
            let sight = match (before.remove(path), seen) {
                (Some(sight), None) => sight,
                (None, None) => SecretSight::new(),
                (_, Some(digest)) => SecretSight::seen(*digest),
            };
            self.secrets.insert(path.clone(), sight);
        }
    }

    /// Looks. The watches are set first, so that what changes after the look is hinted at.
    pub(super) fn survey(&mut self, look: Look) -> Survey {
        let mut survey = Survey::default();
        self.follow(&mut survey);
        self.inspect_mount(&mut survey);
        match self.policy.look(look) {
            Glance::Same => {}
            Glance::Again => survey.again = true,
            Glance::News(mut events) => survey.events.append(&mut events),
        }
        self.look_at_secrets(look, &mut survey);
        survey
    }

    fn follow(&mut self, survey: &mut Survey) {
        let mut places = Places::new();
        trace(self.policy.path(), &mut places);
        self.secrets.keys().for_each(|path| trace(path, &mut places));
        let mode = match self.native.sync(places) {
            None => (WatchMode::Inotify, None),
            Some(why) => (WatchMode::Poll, Some(why.to_owned())),
        };
        if self.mode.as_ref() != Some(&mode) {
            survey.events.push(SourceEvent::Mode(mode.0, mode.1.clone()));
            self.mode = Some(mode);
        }
    }

    fn inspect_mount(&mut self, survey: &mut Survey) {
        let path = self.policy.path();
        let mount = Mount::of(path);
        if mount == self.mount {
            return;
        }
        // A file that is just being replaced has no name left for an instant too.
        if mount == Mount::Stale && self.mount != Mount::Suspect {
            self.mount = Mount::Suspect;
            survey.again = true;
            return;
        }
        match mount {
            Mount::Stale => survey.events.push(SourceEvent::StaleBindMount(remedy(
                path,
                "was replaced outside the container, so that this bind mount shows the old file \
                 for ever",
            ))),
            Mount::File if self.mount == Mount::Plain => {
                survey.events.push(SourceEvent::FragileBindMount(remedy(
                    path,
                    "is bind-mounted as a single file, so that a replacement by rename outside \
                     will not be seen",
                )));
            }
            Mount::Plain | Mount::File | Mount::Suspect => {}
        }
        self.mount = mount;
    }

    fn look_at_secrets(&mut self, look: Look, survey: &mut Survey) {
        let mut changed = Vec::new();
        for (path, sight) in &mut self.secrets {
            match sight.look(path, look) {
                Glance::Same => {}
                Glance::Again => survey.again = true,
                Glance::News(()) => changed.push(path.clone()),
            }
        }
        if !changed.is_empty() {
            survey.events.push(SourceEvent::ExtraChanged(changed));
        }
    }
}

/// How the policy file is mounted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Mount {
    /// As part of a directory, or unknown.
    #[default]
    Plain,
    /// As a single file.
    File,
    /// Without a name left, once.
    Suspect,
    /// Without a name left: nobody else can ever write to what we see.
    Stale,
}

impl Mount {
    fn of(path: &Path) -> Self {
        let Ok(stat) = statx(CWD, path, AtFlags::empty(), StatxFlags::NLINK | StatxFlags::TYPE)
        else {
            return Self::Plain;
        };
        let root = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        match (root, stat.stx_nlink) {
            (true, 0) => Self::Stale,
            (true, _) => Self::File,
            (false, _) => Self::Plain,
        }
    }
}

fn remedy(path: &Path, what: &str) -> String {
    format!("{} {what}; mount its directory instead, or restart after each change", path.display())
}
