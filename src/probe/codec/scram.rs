//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side, without channel binding.
//!
//! The server has to prove that it knows the password too, and how much work it can ask for is
//! bounded.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use icu_normalizer::ComposingNormalizerBorrowed;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The mechanism's name.
pub const MECHANISM: &str = "SCRAM-SHA-256";
/// Most rounds of key derivation that a server may ask for: a second of work, roughly.
pub const ROUNDS_MAX: u32 = 1_000_000;

/// We speak first; no channel binding, no other identity.
const HEADER: &str = "n,,";
/// The same again, in base64, as the last message has it.
const HEADER_AGAIN: &str = "biws";

type Key = [u8; 32];

/// What is wrong with what a server sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wrong {
    /// It is not of this mechanism.
    Malformed,
    /// It asks for more work than is done.
    TooMuchWork,
    /// It refuses our proof.
    Refused,
    /// It could not prove that it knows the password.
    Impostor,
}

/// The first message for this nonce, which must be random and of printable characters.
#[must_use]
pub fn first(nonce: &str) -> String {
    format!("{HEADER}n=,r={nonce}")
}

/// What a server answers to the first message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Challenge {
    nonce: String,
    salt: Vec<u8>,
    rounds: u32,
    /// Both first messages, as they are signed.
    firsts: String,
}

impl Challenge {
    /// Reads it; `nonce` is the one of the first message.
    ///
    /// # Errors
    /// When it does not answer that message, or asks for too much work.
    pub fn read(nonce: &str, message: &[u8]) -> Result<Self, Wrong> {
        let text = std::str::from_utf8(message).map_err(|_other| Wrong::Malformed)?;
        let mut parts = text.split(',');
        let mut part = |name| parts.next().and_then(|part| part.strip_prefix(name));
        let all = (part("r="), part("s="), part("i="));
        let (Some(both), Some(salt), Some(rounds)) = all else { return Err(Wrong::Malformed) };
        let longer = both.strip_prefix(nonce).is_some_and(|theirs| !theirs.is_empty());
        let salt = STANDARD.decode(salt).ok().filter(|salt| longer && !salt.is_empty());
        let rounds = rounds.parse::<u32>().ok().filter(|rounds| *rounds > 0);
        let (Some(salt), Some(rounds)) = (salt, rounds) else { return Err(Wrong::Malformed) };
        if rounds > ROUNDS_MAX {
            return Err(Wrong::TooMuchWork);
        }
        let firsts = format!("n=,r={nonce},{text}");
        Ok(Self { nonce: both.to_owned(), salt, rounds, firsts })
    }

    /// Does the work.
    #[must_use]
    pub fn answer(&self, password: &str) -> Answer {
        let without_proof = format!("c={HEADER_AGAIN},r={}", self.nonce);
        let signed = format!("{},{without_proof}", self.firsts);
        let salted = Zeroizing::new(derive(prepare(password).as_bytes(), &self.salt, self.rounds));
        let client = Zeroizing::new(sign(&*salted, b"Client Key"));
        let stored: Key = Sha256::digest(*client).into();
        let mut proof = sign(&stored, signed.as_bytes());
        proof.iter_mut().zip(client.iter()).for_each(|(proof, key)| *proof ^= key);
        let message = format!("{without_proof},p={}", STANDARD.encode(proof));
        let expected = sign(&sign(&*salted, b"Server Key"), signed.as_bytes());
        Answer { message, expected }
    }
}

/// Our last message, and what the server's must prove.
pub struct Answer {
    message: String,
    expected: Key,
}

impl Answer {
    /// The last message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Holds the server's last message against what only one who knows the password can say.
    ///
    /// # Errors
    /// When it says something else.
    pub fn verify(&self, message: &[u8]) -> Result<(), Wrong> {
        if message.starts_with(b"e=") {
            return Err(Wrong::Refused);
        }
        let proof = message.strip_prefix(b"v=").ok_or(Wrong::Malformed)?;
        let proof = proof.split(|byte| *byte == b',').next().unwrap_or_default();
        let proof = STANDARD.decode(proof).map_err(|_other| Wrong::Malformed)?;
        // Whoever can time this has failed already: it is told once, for a nonce used once.
        if proof == self.expected { Ok(()) } else { Err(Wrong::Impostor) }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer(***)")
    }
}

/// A keyed digest; a key may have any length, so there is none that fails.
fn mac(key: &[u8]) -> Option<Hmac<Sha256>> {
    Hmac::new_from_slice(key).ok()
}

fn sign(key: &[u8], text: &[u8]) -> Key {
    mac(key).map_or([0; 32], |mac| mac.chain_update(text).finalize().into_bytes().into())
}

/// PBKDF2 for one block of output.
fn derive(password: &[u8], salt: &[u8], rounds: u32) -> Key {
    let Some(mac) = mac(password) else { return [0; 32] };
    let first = mac.clone().chain_update(salt).chain_update([0, 0, 0, 1]);
    let mut block: Key = first.finalize().into_bytes().into();
    let mut all = block;
    for _ in 1..rounds {
        block = mac.clone().chain_update(block).finalize().into_bytes().into();
        all.iter_mut().zip(block).for_each(|(all, byte)| *all ^= byte);
    }
    all
}

/// The password as servers store it: RFC 4013, and as it is where that forbids it.
fn prepare(password: &str) -> Zeroizing<String> {
    const fn vanishes(letter: char) -> bool {
        matches!(letter, '\u{ad}' | '\u{34f}' | '\u{1806}' | '\u{180b}'..='\u{180d}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
    }
    if password.is_ascii() || password.chars().any(char::is_control) {
        return Zeroizing::new(password.to_owned());
    }
    let spaced = |letter: char| if letter == '\u{1680}' { ' ' } else { letter };
    let mapped = password.chars().filter(|letter| !vanishes(*letter)).map(spaced);
    let normalizer = ComposingNormalizerBorrowed::new_nfkc();
    Zeroizing::new(normalizer.normalize_iter(mapped).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 7677, section 3; its user name is not sent here, so only the server's part is used.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn the_example_of_the_standard_is_reproduced() {
        let mut challenge = Challenge::read(NONCE, CHALLENGE).unwrap();
        challenge.firsts = challenge.firsts.replacen("n=,", "n=user,", 1);
        let answer = challenge.answer("pencil");
        assert_eq!(
            answer.message(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let proof = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(answer.verify(proof), Ok(()));
        let other = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=";
        assert!(answer.verify(other).is_err());
        assert_eq!(answer.verify(b"v=AAAA"), Err(Wrong::Impostor));
        assert_eq!(answer.verify(b"e=invalid-proof"), Err(Wrong::Refused));
        assert_eq!(answer.verify(b""), Err(Wrong::Malformed));
        assert_eq!(format!("{answer:?}"), "Answer(***)");
    }

    #[test]
    fn a_challenge_must_answer_our_nonce_and_be_whole() {
        let read = |text: &str| Challenge::read("abc", text.as_bytes()).map(|_| ());
        assert_eq!(read("r=abcd,s=AAAA,i=1"), Ok(()));
        for text in [
            "",
            "r=abc,s=AAAA,i=1",
            "r=xbcd,s=AAAA,i=1",
            "r=abcd,s=,i=1",
            "r=abcd,s=!,i=1",
            "r=abcd,s=AAAA,i=0",
            "r=abcd,s=AAAA,i=-1",
            "r=abcd,s=AAAA",
            "m=x,r=abcd,s=AAAA,i=1",
        ] {
            assert_eq!(read(text), Err(Wrong::Malformed), "{text}");
        }
    }

    #[test]
    fn work_without_end_is_not_done() {
        let read = |text: &str| Challenge::read("abc", text.as_bytes()).map(|_| ());
        assert_eq!(read("r=abcd,s=AAAA,i=1000000"), Ok(()));
        assert_eq!(read("r=abcd,s=AAAA,i=1000001"), Err(Wrong::TooMuchWork));
        assert_eq!(read("r=abcd,s=AAAA,i=4294967295"), Err(Wrong::TooMuchWork));
    }

    #[test]
    fn a_password_is_prepared_as_servers_do() {
        // RFC 4013, section 3.
        for (given, stored) in [
            ("I\u{ad}X", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u{aa}", "a"),
            ("\u{2168}", "IX"),
            ("pass\u{a0}word", "pass word"),
            ("\u{7}\u{2168}", "\u{7}\u{2168}"),
        ] {
            assert_eq!(prepare(given).as_str(), stored);
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            for message in [bytes.clone(), [b"r=abc".as_slice(), &bytes].concat()] {
                if let Ok(challenge) = Challenge::read("abc", &message) {
                    prop_assert!(challenge.rounds <= ROUNDS_MAX);
                }
            }
            let answer = Answer { message: String::new(), expected: [0; 32] };
            prop_assert!(answer.verify(&bytes).is_err());
        }
    }
}
