//! `man`: the manual pages, made from the same description as `--help`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use crate::cli::args;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;

/// Print the manual page, or write one page a command into a directory.
#[derive(Args, Debug)]
pub(crate) struct Manual {
    /// Where to write `mcp-failover.1`, `mcp-failover-run.1` and so on.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Manual {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let mut command = args::command();
        // Building names each command in full, which the pages show.
        command.build();
        match self.dir {
            None => terminal.print(&String::from_utf8_lossy(&page(&command)?))?,
            Some(dir) => write_all(&command, &dir)?,
        }
        Ok(Exit::Fine)
    }
}

fn write_all(command: &Command, dir: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, source| Failure::Write { path: path.to_owned(), source };
    fs::create_dir_all(dir).map_err(|source| failed(dir, source))?;
    let path = dir.join(Man::new(command.clone()).get_filename());
    fs::write(&path, page(command)?).map_err(|source| failed(&path, source))?;
    command.get_subcommands().try_for_each(|command| write_all(command, dir))
}

fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page).map_err(Failure::Output)?;
    Ok(page)
}
