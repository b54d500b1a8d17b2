//! Builds what is expected of whoever reads an output.

use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::model::{Reader, Uptake};
use crate::policy::raw::{self, At, Ctx, OnIneffective};

/// What an output says of its readers.
pub(super) fn of_output(raw: &raw::Output, ctx: &mut Ctx<'_>) -> Option<Uptake> {
    let Some(timeout) = raw.effective_timeout else {
        if raw.at.has("on_ineffective") && !raw.at.has("effective_timeout") {
            let message = "`on_ineffective` means nothing without `effective_timeout`";
            ctx.error(Code::NotApplicable, raw.at.of("on_ineffective"), message, "");
        }
        return None;
    };
    Some(Uptake { timeout: timeout.value, roll_back: rolls_back(raw.on_ineffective) })
}

/// What `[child]` says of the server.
pub(super) fn of_child(raw: &raw::Child, default: Uptake) -> Uptake {
    Uptake {
        timeout: raw.effective_timeout.map_or(default.timeout, |timeout| timeout.value),
        roll_back: rolls_back(raw.on_ineffective),
    }
}

fn rolls_back(raw: Option<At<OnIneffective>>) -> bool {
    raw.is_some_and(|at| at.value == OnIneffective::RollBack)
}

/// The reader of a file, without which nothing tells whether the file is in use.
pub(super) fn reader(raw: &raw::Output, ctx: &mut Ctx<'_>) -> Option<Reader> {
    let Some(reader) = &raw.reader else {
        if raw.at.has("effective_timeout") && !raw.at.has("reader") {
            let message = "nothing proves that this file is in use";
            let help = "name the process that reads it: `reader = { pid_file = \"…\" }` or \
                        `reader = { process = \"…\" }`";
            ctx.error(Code::NotApplicable, raw.at.of("effective_timeout"), message, help);
        }
        return None;
    };
    match (&reader.pid_file, &reader.process) {
        (Some(path), None) => check::path(path, ctx).map(Reader::PidFile),
        (None, Some(process)) => {
            if process.value.trim().is_empty() {
                ctx.error(Code::EmptyValue, process.span, "an empty process name", "");
            }
            Some(Reader::Process(process.value.clone()))
        }
        (Some(_), Some(_)) | (None, None) => {
            if reader.at.has("pid_file") == reader.at.has("process") {
                let message = "`reader` needs exactly one of `pid_file` and `process`";
                ctx.error(Code::NotApplicable, reader.at.span, message, "");
            }
            None
        }
    }
}
