//! `tideover install --system` and `tideover uninstall`: load the library into every program, by /etc/ld.so.preload. With `--cdi`: offer it to
//! containers (`cdi`).
//!
//! A library in this file that does not load, or that another user can change, harms every program. So programs are started
//! with the library before the file is changed; the file is put in place by rename(2), so that a program that starts meanwhile
//! reads the old or the new one; and then the shell is started again, and the old file put back if it behaves otherwise.
#![forbid(unsafe_code)]

mod cdi;
mod comparison;
mod ownership;
mod preload_file;

use crate::executables::elf::Elf;
use crate::launch::library::{self, NAME, multiarch};
use crate::launch::preload;
use crate::show::failure::{Failure, cause};
use crate::show::output::print;
use crate::system::replace::{readable, replace};
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, ValueHint, value_parser};
use ownership::{follow, problem};
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const INSTALL_EXAMPLES: &str = "\
Examples:
  sudo tideover install --system --dry-run   try it, and change nothing
  sudo tideover install --system
  sudo tideover install --system --root /mnt/image
  sudo tideover uninstall                    the way back
  sudo tideover install --cdi                offer it to containers
  podman run --device tideover.io/preload=on IMAGE

With --cdi, /etc/cdi/tideover.json is written, which podman (4.1), Docker (25),
containerd (1.7) and CRI-O (1.23) and later ones read. A container that is
started with that device has the library mounted read-only and LD_PRELOAD set
to it; the image is not changed, and others are not concerned.

With --system, every program of the machine loads it, by /etc/ld.so.preload.

Before anything is written, a shell and other programs are started with the
library and compared with what they do without it. The library and all folders
above it must belong to root and be nobody else's to change. Entries of others
and comments in /etc/ld.so.preload stay as they are. Only programs that start
from then on are concerned; static ones and those of musl never are.

Should programs not start afterwards: in a shell that is still open,
  : > /etc/ld.so.preload
is a builtin and starts nothing. From a rescue system or a container's host:
  tideover uninstall --root /mnt";

const UNINSTALL_EXAMPLES: &str = "\
Examples:
  sudo tideover uninstall
  tideover uninstall --root /mnt             from a rescue system
  sudo tideover uninstall --cdi              containers can no longer ask for it

Takes the library out of /etc/ld.so.preload, in whatever folder it is, and leaves
the rest of the file as it is; a file that is then empty is removed. Running
programs keep the library until they end.";

/// The command line of `install`.
pub fn install_command() -> Command {
    Command::new("install")
        .about("Puts the library into every program, by /etc/ld.so.preload, or offers it to containers")
        .arg(
            Arg::new("system")
                .long("system")
                .action(ArgAction::SetTrue)
                .help("Yes, every program (for one program: tideover run, or LD_PRELOAD in its unit)"),
        )
        .arg(cdi_flag("Let containers ask for it by --device tideover.io/preload=on"))
        .group(ArgGroup::new("what").args(["system", "cdi"]).required(true))
        .arg(
            Arg::new("library")
                .long("library")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::FilePath)
                .help("The library, as programs will see it [default: where `make install` or the package put it]"),
        )
        .arg(root_flag())
        .arg(Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue).help("Try everything and change nothing"))
        .after_help(INSTALL_EXAMPLES)
}

/// The command line of `uninstall`.
pub fn uninstall_command() -> Command {
    Command::new("uninstall")
        .about("Takes the library out of /etc/ld.so.preload, or no longer offers it to containers")
        .arg(Arg::new("system").long("system").action(ArgAction::SetTrue).hide(true).help("Accepted, as by install"))
        .arg(cdi_flag("Remove /etc/cdi/tideover.json instead").conflicts_with("system"))
        .arg(root_flag())
        .after_help(UNINSTALL_EXAMPLES)
}

fn cdi_flag(help: &'static str) -> Arg {
    Arg::new("cdi").long("cdi").action(ArgAction::SetTrue).help(help)
}

fn root_flag() -> Arg {
    Arg::new("root")
        .long("root")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::DirPath)
        .default_value("/")
        .hide_default_value(true)
        .help("Act on the system in this folder (an image, a mounted disk)")
}

/// Tries the library, changes the file, and tries again.
pub fn install(matches: &ArgMatches) -> Result<(), Failure> {
    let root = root(matches)?;
    let named = matches.get_one("library");
    if matches.get_flag("cdi") {
        return cdi::install(&root, &library(&root, named, "offer it to containers")?, matches.get_flag("dry-run"));
    }
    let library = library(&root, named, "put it into every program")?;
    let list = List::read(&root)?;
    let wanted = preload_file::with(&list.text, &library);
    let shown = library.display();

    let tried = comparison::compare(&root, &library).map_err(|why| {
        Failure::refused(format!("cannot put {shown} into every program: {why}; nothing was changed"))
    })?;
    if root.join("lib/ld-linux.so.2").exists() {
        log::warn!("32-bit programs can run here: each will say that {shown} is for 64 bit, and run without it");
    }
    print(&format!("Programs start with {shown} as without it: {}.\n", tried.join(", ")))?;
    if matches.get_flag("dry-run") {
        return print(&format!("{} was left as it is.\n", list.path.display()));
    }
    if wanted == list.text {
        return print(&format!("{} names it already.\n", list.path.display()));
    }
    let before = comparison::before(&root);
    list.replace_if(&wanted, || before.map_or(Ok(()), |before| before.confirm(&root, &library)))?;
    let from = if root == Path::new("/") { String::new() } else { format!(" --root {}", root.display()) };
    print(&format!(
        "Programs that start from now on load it: {} says so.\n\
         Undo: tideover uninstall{from}\n\
         If programs don't start, in a shell that is still open: : > /etc/ld.so.preload\n",
        list.path.display()
    ))
}

/// Takes the library out of the file.
pub fn uninstall(matches: &ArgMatches) -> Result<(), Failure> {
    if matches.get_flag("cdi") {
        return cdi::uninstall(&root(matches)?);
    }
    let list = List::read(&root(matches)?)?;
    if !preload_file::names(&list.text) {
        return print(&format!("{} does not name {NAME}: nothing to do.\n", list.path.display()));
    }
    list.replace(&preload_file::without(&list.text))?;
    print(&format!("{NAME} is out of {}; running programs keep it until they end.\n", list.path.display()))
}

fn root(matches: &ArgMatches) -> Result<PathBuf, Failure> {
    let given = matches.get_one::<PathBuf>("root").map_or(Path::new("/"), PathBuf::as_path);
    let root = given.canonicalize().and_then(|path| path.metadata().map(|metadata| (path, metadata)));
    match root {
        Ok((path, metadata)) if metadata.is_dir() => Ok(path),
        Ok((path, _)) => Err(Failure::usage(format!("--root {} is not a folder", path.display()))),
        Err(error) => Err(Failure::usage(format!("--root {}: {}", given.display(), cause(&error)))),
    }
}

/// The path of the library as a process sees it whose root directory is `root`, after all checks.
/// `purpose` is what it is for, for refusals.
fn library(root: &Path, named: Option<&PathBuf>, purpose: &str) -> Result<PathBuf, Failure> {
    let inside = root != Path::new("/");
    let path = match named {
        Some(path) => path.clone(),
        None if inside => installed(root)?,
        None => library::find()?.path,
    };
    let refuse = |why: String| {
        Failure::refused(format!("cannot {}: {why}", purpose.replacen("it", &path.display().to_string(), 1)))
    };
    if !path.is_absolute() {
        return Err(refuse("give its full path".to_string()));
    }
    if path.file_name() != Some(NAME.as_ref()) {
        // `uninstall` recognises it by its name.
        return Err(refuse(format!("its name has to be {NAME}")));
    }
    if let Some(why) = preload::inexpressible(&path) {
        return Err(refuse(
            why.replace("LD_PRELOAD", "/etc/ld.so.preload").replace("set TIDEOVER_LIB to", "--library takes"),
        ));
    }
    if path.to_string_lossy().contains(['\t', '#']) {
        return Err(refuse("its path has a tab or a #, which /etc/ld.so.preload cannot express".to_string()));
    }
    let real = follow(root, &path)
        .map_err(|why| refuse(format!("{why} (`make install` and the package put it where only root may write)")))?;
    let library = library::examine(&real)?;
    let shell = follow(root, Path::new("/bin/sh")).ok().and_then(|shell| Elf::read(File::open(shell).ok()?));
    match shell.and_then(|shell| library.foreign_to(&shell, "/bin/sh there")) {
        Some(foreign) => Err(refuse(foreign)),
        None => Ok(path),
    }
}

/// Finds the library where a package or `make install` has put it.
fn installed(root: &Path) -> Result<PathBuf, Failure> {
    let folders = ["/usr/local/lib", "/usr/lib", "/usr/lib64"].map(PathBuf::from);
    let places = folders.iter().flat_map(|folder| [folder.join(multiarch()), folder.clone()]).map(|f| f.join(NAME));
    places.into_iter().find(|path| follow(root, path).is_ok()).ok_or_else(|| {
        Failure::refused(format!("cannot find {NAME} in {}; name it: --library /PATH/IN/THERE/{NAME}", root.display()))
    })
}

/// /etc/ld.so.preload.
struct List {
    path: PathBuf,
    /// Its content; empty if there is no file.
    text: Vec<u8>,
    permissions: Permissions,
}

impl List {
    fn read(root: &Path) -> Result<List, Failure> {
        let shown = root.join("etc/ld.so.preload");
        let refuse = |why: String| Failure::refused(format!("cannot change {}: {why}", shown.display()));
        let folder = follow(root, Path::new("/etc")).map_err(refuse)?;
        let path = folder.join("ld.so.preload");
        let permissions = match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(List { path, text: Vec::new(), permissions: readable() });
            }
            Err(error) => return Err(refuse(cause(&error))),
            Ok(metadata) if !metadata.is_file() => {
                return Err(refuse(
                    "it is not a regular file; somebody arranged that, so change it where it points".to_string(),
                ));
            }
            Ok(metadata) => match problem(&metadata) {
                Some((what, remedy)) => return Err(refuse(format!("it {what}; {remedy} {}", path.display()))),
                None => metadata.permissions(),
            },
        };
        let text = fs::read(&path).map_err(|error| refuse(cause(&error)))?;
        Ok(List { path, text, permissions })
    }

    /// Puts another text in its place, and the old one back if `is_good` then says why that is not to stay. The
    /// old text is written beside the file before anything is changed, so that a full disk can't be in the way back.
    fn replace_if(&self, text: &[u8], is_good: impl FnOnce() -> Result<(), String>) -> Result<(), Failure> {
        let backup = self.path.with_file_name(".ld.so.preload.tideover-before");
        let has_old = !preload_file::is_blank(&self.text);
        if has_old {
            replace(&backup, &self.text, self.permissions.clone()).map_err(|error| self.failure(&error))?;
        }
        let done = self.replace(text).and_then(|()| {
            let Err(why) = is_good() else { return Ok(()) };
            let old = if has_old { fs::rename(&backup, &self.path) } else { fs::remove_file(&self.path) };
            old.map_err(|error| self.failure(&error))?;
            Err(Failure::failed(format!("{why}; {} is again as it was", self.path.display())))
        });
        let _ = fs::remove_file(&backup);
        done
    }

    /// Replaces the file by one with this text, or removes it if the text is blank.
    fn replace(&self, text: &[u8]) -> Result<(), Failure> {
        if !preload_file::is_blank(text) {
            return replace(&self.path, text, self.permissions.clone()).map_err(|error| self.failure(&error));
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failure(&error)),
            _ => Ok(()),
        }
    }

    fn failure(&self, error: &std::io::Error) -> Failure {
        let remedy = if error.kind() == ErrorKind::PermissionDenied { "; run it as root" } else { "" };
        Failure::failed(format!("cannot change {}: {}{remedy}", self.path.display(), cause(error)))
    }
}
