//! The policy file and the secret files it names, as bytes.
