//! The catalogue of everything the compiler can say, each under a code that never changes.
//!
//! Owns the codes, their titles and their long explanations; knows nothing of where they occur.
//! A code is never reused for another meaning. `check --explain CODE` prints the explanation.

use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// It can be used, but probably does not do what its author wants.
    Warning,
}

impl Severity {
    /// Its name in JSON.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// What `check --explain` tells about a code.
#[derive(Debug)]
pub struct Explained {
    /// The code, such as `MF0201`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it means, in a few words.
    pub title: &'static str,
    /// What it means, why it is refused, and what to do.
    pub explanation: &'static str,
}

macro_rules! codes {
    ($($severity:ident { $($name:ident = $code:literal, $title:literal, $text:literal;)* })*) => {
        /// A finding's stable identity.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Code {
            $($(#[doc = $title] $name,)*)*
        }

        impl Code {
            /// What is known about the code.
            #[must_use]
            pub const fn explained(self) -> &'static Explained {
                match self {
                    $($(Self::$name => &Explained {
                        code: $code,
                        severity: Severity::$severity,
                        title: $title,
                        explanation: $text,
                    },)*)*
                }
            }
        }

        /// Every code, in the order of its number.
        const ALL: &[Code] = &[$($(Code::$name,)*)*];
    };
}

codes! {
    Error {
        Syntax = "MF0101", "not valid TOML",
            "The file is not TOML. Every place where the parser stumbled is shown; the rest of the\n\
             file is not judged until it parses. Common causes: a value without quotes, a quote\n\
             that is not closed, the same table header or key twice.";
        Empty = "MF0102", "the policy is empty",
            "The file has no content besides blanks and comments. An empty file is most often one\n\
             that is just being written; it never replaces a running policy.\n\
             `mcp-failover init` writes a policy to start from.";
        TooLarge = "MF0103", "the policy is too large",
            "A policy may have 1 MiB. Real ones are far smaller; a larger file is a mistake, such\n\
             as a log written to the wrong path, and is refused before it is parsed.";
        MissingVersion = "MF0104", "the policy does not say its version",
            "The first key of a policy is `version = 1`. It lets a later release read old files\n\
             rightly instead of guessing.";
        UnsupportedVersion = "MF0105", "a version that is not known",
            "This release reads `version = 1`. A file of a later format needs a later release.";
        UnknownKey = "MF0201", "unknown key",
            "A key that means nothing here is refused, because a misspelt key that is silently\n\
             ignored is a protection that is silently absent. The nearest known key is suggested.";
        MissingKey = "MF0202", "a key is missing",
            "The table lacks a key that it cannot do without and that has no sensible default.";
        WrongType = "MF0203", "a value of the wrong type",
            "The value is of another type than the key takes, such as a number where text belongs.";
        UnknownValue = "MF0204", "not one of the known values",
            "The key takes one of a fixed list of words. The list is in the help, the nearest word\n\
             is suggested.";
        OutOfRange = "MF0205", "a number out of range",
            "The number is smaller or larger than the key allows; the help names the limits.";
        BareDuration = "MF0206", "a duration without a unit",
            "A bare number does not say whether it means seconds or milliseconds. Write text with a\n\
             unit: \"500ms\", \"5s\", \"1m 30s\", \"2h\", \"7d\".";
        BadDuration = "MF0207", "not a duration",
            "A duration is one or more whole numbers with a unit each, largest unit first:\n\
             \"500ms\", \"5s\", \"1m 30s\", \"2h\", \"7d\". Months and years have no fixed length and\n\
             are not known.";
        NotPositive = "MF0208", "a duration that is zero or negative",
            "This span of time must be longer than nothing: a zero interval would be a busy loop,\n\
             a zero timeout could never be met.";
        NotApplicable = "MF0209", "the key does not apply here",
            "The key exists, but not for this kind of table: a `path` means nothing to a tcp probe,\n\
             a cadence cannot differ between endpoints of a service. It is refused because it\n\
             would have no effect.";
        BadName = "MF0210", "not a usable name",
            "Names of services, endpoints, outputs and alerts appear in metrics, variables and\n\
             commands. They start with a letter or digit and go on with letters, digits, `-`, `_`\n\
             and (endpoints, outputs, alerts) `.`, at most 63 characters; services are lower case.";
        DuplicateName = "MF0211", "a name used twice",
            "Names identify state over reloads and restarts, so they are unique: endpoints within\n\
             their service, outputs and alerts within the policy.";
        EmptyValue = "MF0212", "an empty value",
            "The value must not be empty here: an empty command, list, name or path cannot work.";
        UnsetVariable = "MF0301", "a variable that is not set",
            "`${NAME}` stands for an environment variable of the sidecar, which is not set. Set it,\n\
             or give a default: `${NAME:-default}`. A literal dollar sign is written `$$`.";
        BadInterpolation = "MF0302", "an interpolation that cannot be read",
            "Known forms: `${NAME}`, `${NAME:-default}`, `${file:PATH}`, `${endpoint.name}`,\n\
             `${endpoint.env.NAME}`. The closing brace is part of it; `$$` is a literal dollar sign.";
        UnknownInterpolation = "MF0303", "an unknown interpolation",
            "Of an endpoint, `${endpoint.name}` and `${endpoint.env.NAME}` are known; of sources,\n\
             `${file:PATH}`.";
        UnreadableFile = "MF0304", "a file that cannot be read",
            "A file that the policy names could not be read. Check that it exists, that the sidecar\n\
             may read it, and that it is UTF-8 of at most 1 MiB. Its content is never shown.";
        MissingEndpointVariable = "MF0305", "an endpoint lacks a variable that its probe needs",
            "The probe uses `${endpoint.env.NAME}`, but the endpoint's `env` has no such name. Add\n\
             it to `env` of each endpoint, or change the probe.";
        InterpolationNotAllowed = "MF0306", "an interpolation that has no meaning here",
            "`${endpoint.…}` stands for the endpoint being probed. It is known in probes and, as\n\
             `${endpoint.name}`, in an endpoint's own `url` and `env`, and nowhere else.";
        ControlCharacter = "MF0307", "a control character in a value",
            "The value has a byte that must not occur there, such as a NUL or a line break: in a\n\
             header it would start a new header, in an env file a new variable. If it comes from a\n\
             variable, look for a stray line break at its end.";
        FormatCannotCarry = "MF0308", "a value that the output's format cannot carry",
            "The format's own reader would not get the value back as it is: `docker` ends a value at\n\
             the end of the line, dotenv readers expand `${…}` even between quotes. Use another\n\
             format (`json` carries everything), or encode the value.";
        BadUrl = "MF0401", "not a usable address",
            "An address is `scheme://host[:port][/path]`. IPv6 addresses stand in brackets.\n\
             International names are written in their ASCII form (`xn--…`).";
        UnknownScheme = "MF0402", "an unknown scheme",
            "The scheme tells the default port and whether TLS is used. For a service that is not\n\
             in the list use `tcp://host:port` or `tls://host:port`.";
        BadMethod = "MF0403", "not an HTTP method",
            "A method is a word in upper case such as GET, HEAD or POST.";
        BadHeader = "MF0404", "not a usable header",
            "Header names are letters, digits and `-`. `Host`, `Content-Length`, `Connection` and\n\
             `Transfer-Encoding` belong to the connection and are set by the probe itself.";
        BadPointer = "MF0405", "not a JSON pointer",
            "A JSON pointer (RFC 6901) is empty or starts with `/`: `/dimension`, `/items/0/name`.\n\
             In a name, `/` is written `~1` and `~` is written `~0`.";
        BadPattern = "MF0406", "not a pattern that can be matched",
            "The text is not a regular expression of the supported kind: no look-around, no\n\
             back-references.";
        BadStatus = "MF0407", "not a status pattern",
            "A status is a number (`200`), a class (`\"2xx\"`) or a range (`\"200-299\"`), all\n\
             between 100 and 599.";
        BadPath = "MF0408", "not a usable path",
            "A request path starts with `/` and has no blanks or fragment. A file path is not empty;\n\
             the path of a socket has at most 107 bytes.";
        MissingUrl = "MF0409", "an endpoint without an address",
            "The probe needs to know where to connect: give the endpoint a `url`. Only `exec`\n\
             probes can do without.";
        UnknownPreset = "MF0410", "an unknown preset",
            "A preset fills in the probe, the cost and the names of the variables of a well-known\n\
             service. For any other service leave `preset` out and describe the probe.";
        BadListen = "MF0411", "not an address to listen on",
            "`listen` takes an IP address with a port, such as \"127.0.0.1:9464\" or \"[::1]:9464\",\n\
             or \"off\".";
        BadCertificate = "MF0412", "not a PEM certificate file",
            "`ca_file` names a file with one or more PEM blocks that begin with\n\
             `-----BEGIN CERTIFICATE-----`.";
        BadVariableName = "MF0413", "not a variable name",
            "Names of variables are letters, digits and `_`, and do not start with a digit.";
        ReservedVariable = "MF0414", "a reserved variable name",
            "Names that start with `MCP_FAILOVER_` are written by the sidecar itself.";
        WrongScheme = "MF0415", "a scheme that this probe cannot use",
            "Each kind of probe takes the addresses of its own protocol: http probes `http://`,\n\
             `https://` and `unix:`, Redis probes `redis://` and `rediss://`, and so on. User info in\n\
             an http address would not be sent: use an `Authorization` header. Alerts need http or\n\
             https.";
        AmbiguousToken = "MF0416", "a token that says too little or too much",
            "A `token` is made for the attempt from one source: `jwt` signs it here, `oauth` asks a\n\
             token endpoint for it. It is sent as `Authorization: Bearer …`, so it cannot stand\n\
             beside an `Authorization` header.";
        BadCombination = "MF0417", "a combination of checks that cannot work",
            "`all`, `any` and `k_of_n` combine 1 to 16 `checks` into one verdict; `need` is at most\n\
             their number. Combinations do not nest.";
        IncompleteLogin = "MF0418", "a user without a password, or the reverse",
            "This server wants both or neither. They come from the probe's `username` and\n\
             `password`, or from the address: `scheme://user:password@host`.";
        TimeoutTooLong = "MF0501", "a timeout that is too long",
            "One attempt may take two minutes at most. A longer one would mean that a silent\n\
             endpoint is noticed too late to be of use.";
        QuotaExceeded = "MF0502", "probing would exceed the quota",
            "The steady rate of all probes that share an account is larger than the quota declared\n\
             by `cost`. The message shows the arithmetic: one active endpoint at `interval`, the\n\
             others at `standby_interval`, the deep probe likewise. Lengthen the intervals.";
        BadOrder = "MF0503", "spans of time in the wrong order",
            "Some spans must not be longer than others: `fast_interval` than `interval`,\n\
             `down_interval` than `down_interval_max`, `reset_timeout` than `reset_timeout_max`,\n\
             `reuse` than `suppress`.";
        NoServices = "MF0601", "no service",
            "A policy has at least one `[services.NAME]`.";
        NoEndpoints = "MF0602", "a service without endpoints",
            "A service has at least one `[[services.NAME.endpoints]]`; two to be of use.";
        TooMany = "MF0603", "too many services, endpoints or references",
            "A policy may have 1,024 services, 16,384 endpoints in all, and 16 references.";
        StrategyNotServed = "MF0604", "a strategy that no output can serve",
            "An env file names one endpoint for everybody, so it can serve `priority` only. The\n\
             other strategies choose anew for each call and need an output that is asked for each\n\
             call: `socket` or `proxy`.";
        DuplicatePath = "MF0701", "two outputs write the same file",
            "Two writers of one file would overwrite each other for ever.";
        DuplicateVariable = "MF0702", "two services write the same variable",
            "In one file a variable has one value. Give the services different variable names, or\n\
             write them to different files with `services = [\"…\"]`.";
        UnknownService = "MF0703", "an unknown service",
            "The output names a service that the policy does not have.";
        BadMode = "MF0704", "not a file mode",
            "A file mode is octal text such as \"0600\" or \"0640\". The owner must be able to read\n\
             and write; nobody may execute.";
        UnknownSignal = "MF0705", "an unknown signal",
            "Known: SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT, SIGWINCH, SIGKILL.";
        AmbiguousHook = "MF0706", "an `on_change` that says too little or too much",
            "Each `on_change` has one effect: `signal` with `pid_file`, `signal` with `process`, or\n\
             `command`. Give a list for several effects.";
        BadTemplate = "MF0707", "a template that cannot be read",
            "The text is not a template: a tag that is not closed, an expression that breaks off, a\n\
             statement that there is not. `{{ … }}` writes a value, `{% if … %}` and `{% for … %}`\n\
             choose and repeat, `{# … #}` is a comment; a literal `{{` is written `{{ '{{' }}`.";
        TemplateFails = "MF0708", "a template that cannot be filled in",
            "The template was filled in with every endpoint of every service, and once without\n\
             endpoints where `on_all_down = \"fail\"` allows that. Names that are not defined are\n\
             refused: a typing mistake must not become an empty value. Known: `revision`, and for each\n\
             service `services.NAME.endpoint`, `.url`, `.env.KEY`, `.from`, `.cause` and `.kind`. Ask\n\
             `{% if services.NAME.endpoint %}` before what a service without endpoint does not have,\n\
             or use `|default(\"…\")`.";
        NotOfFormat = "MF0709", "a file that its readers could not read",
            "The template can be filled in, but what it gives is not JSON or TOML, as the ending of\n\
             `path` or `quoting` says, or an expression stands in quotes. In such files a value brings\n\
             its own: write `\"url\": {{ services.search.url }}`, not `\"url\": \"{{ … }}\"`, or take them\n\
             away with `|safe`. `quoting = \"plain\"` writes values as they are and checks nothing.";
        BlindCheck = "MF0710", "a check that does not look at the file",
            "`check` is run on a new file before it takes the old one's place. It finds the file under\n\
             the path that stands for `{staged}` in its arguments, never under the final one.";
        UnknownEvent = "MF0801", "an unknown event",
            "`events` lists names of events as they appear in `watch`.";
        BadBackupPlace = "MF0802", "not a place for backups",
            "Backups go to a directory, on another disk than `state_dir`, or to a bucket of an S3\n\
             server: `s3://bucket/prefix`. Give each sidecar a place of its own: a recovery takes the\n\
             newest backup that is there.";
        BadLogin = "MF0803", "a login that cannot work",
            "User and password of the Redis server stand in its address, or in `username` and\n\
             `password`, not in both. A user without a password cannot log in; a password alone is\n\
             that of the default user.";
    }
    Warning {
        LiteralCredential = "MF0901", "a credential written into the policy",
            "The value looks like a credential. Everybody who can read the file can read it, and it\n\
             ends up in backups and version control. Use `${NAME}` or `${file:PATH}`.";
        NoBackup = "MF0902", "a service with nothing to fail over to",
            "With a single endpoint the service is watched, but cannot be moved.";
        SameEndpoint = "MF0903", "a backup that is the same as another endpoint",
            "Two endpoints of the service have the same address and the same variables, so moving\n\
             between them changes nothing. Often both variables point at the same host.";
        NoOutput = "MF0904", "no output",
            "Without an output the sidecar watches and decides, but nobody learns of it except by\n\
             status and metrics.";
        UnevenVariables = "MF0905", "a variable that only some endpoints publish",
            "When the service moves to an endpoint without the variable, the variable disappears\n\
             from the file. Give every endpoint of a service the same names.";
        PublicListen = "MF0906", "the status page is reachable from other machines",
            "It holds no secrets and accepts no commands, but names services and endpoints. Listen\n\
             on a loopback address unless the network is trusted.";
        UnverifiedTls = "MF0907", "an address whose certificate is not verified",
            "`bolt+ssc`, `neo4j+ssc` and `sslmode=require` take any certificate. The probe does the\n\
             same, so that its verdict is what the server's own driver would see; but anybody on the\n\
             way can answer, and can read a password sent there. Use `+s` or `sslmode=verify-full`,\n\
             with `ca_file` for a private authority.";
    }
}

impl Code {
    /// The code as printed, such as `MF0201`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.explained().code
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(self) -> Severity {
        self.explained().severity
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Every code, in the order of its number.
pub fn all() -> impl Iterator<Item = &'static Explained> {
    ALL.iter().map(|code| code.explained())
}

/// What is known about a code, written in upper or lower case.
#[must_use]
pub fn explain(code: &str) -> Option<&'static Explained> {
    all().find(|known| known.code.eq_ignore_ascii_case(code.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_rise() {
        let codes: Vec<_> = all().map(|known| known.code).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
    }

    #[test]
    fn a_code_is_found_in_either_case() {
        assert_eq!(explain("mf0201").map(|known| known.title), Some("unknown key"));
        assert!(explain("MF9999").is_none());
    }
}
