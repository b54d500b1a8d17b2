//! The servers' requests to the client that have no answer yet.
//!
//! Every process numbers its requests from the beginning, so each goes to the client under a name
//! of ours that says whose it is. The same holds for the token under which the client reports its
//! progress.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::output::child::session::Generation;
use crate::output::child::session::message::Id;

/// Requests to the client at most; a server that has more is answered with an error at once.
const QUESTIONS_MAX: usize = 1_024;

/// One request of a server.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) generation: Generation,
    /// The server's own id.
    pub(super) id: Id,
    /// The server's own progress token.
    pub(super) token: Option<Box<RawValue>>,
}

/// All of them, by the id that the client knows; the token that it knows is the same text.
#[derive(Debug, Default)]
pub(super) struct Asked {
    by_face: BTreeMap<Id, Question>,
    count: u64,
}

impl Asked {
    /// Gives one a name for the client; `None` when there are too many.
    pub(super) fn insert(&mut self, question: Question) -> Option<Id> {
        if self.by_face.len() >= QUESTIONS_MAX {
            return None;
        }
        self.count += 1;
        let face = Id::Text(format!("mf-{}-{}", question.generation, self.count).into());
        self.by_face.insert(face.clone(), question);
        Some(face)
    }

    pub(super) fn get(&self, face: &Id) -> Option<&Question> {
        self.by_face.get(face)
    }

    pub(super) fn remove(&mut self, face: &Id) -> Option<Question> {
        self.by_face.remove(face)
    }

    /// The name under which the client knows a server's request.
    pub(super) fn face(&self, generation: Generation, id: &Id) -> Option<Id> {
        let is_it = |question: &Question| question.generation == generation && question.id == *id;
        self.by_face.iter().find(|(_, question)| is_it(question)).map(|(face, _)| face.clone())
    }

    /// Forgets all of a server that is gone, and names them.
    pub(super) fn forget(&mut self, generation: Generation) -> Vec<Id> {
        let gone = |question: &Question| question.generation == generation;
        let faces = self.by_face.iter().filter(|(_, question)| gone(question));
        let faces: Vec<Id> = faces.map(|(face, _)| face.clone()).collect();
        for face in &faces {
            self.by_face.remove(face);
        }
        faces
    }
}
