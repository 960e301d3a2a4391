//! Network namespaces: open, make, delete, enter and run inside. It never touches what is in them.

use std::{
    collections::HashSet,
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    thread,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    getsockopt_impl, libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sockopt_impl,
    sys::{
        socket::{AddressFamily, SockFlag, SockType, getsockopt, socket},
        statfs::{FsType, fstatfs},
    },
};
use serde::{Deserialize, Serialize};

use super::error::{Doing, Error, Result};

/// Where `ip netns` keeps named namespaces.
pub const NAMED: &str = "/run/netns";

const THIS_THREAD: &str = "/proc/thread-self/ns/net";

/// `NSFS_MAGIC` of `linux/magic.h`.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// Which namespace it is, whatever path leads to it: stable until the namespace is gone.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct NetnsId {
    /// Device number of the kernel's nsfs.
    pub dev: u64,
    /// Inode in it.
    pub inode: u64,
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

/// What [`create`] or [`delete`] found to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Done {
    /// It was as asked for before.
    Already,
    /// It was changed.
    Changed,
}

/// An open network namespace; it lives at least as long as this value.
#[derive(Debug)]
pub struct Netns {
    file: File,
    id: NetnsId,
    path: PathBuf,
}

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        Self::open(Path::new(THIS_THREAD))?.ok_or_else(|| Error::NoNetns(THIS_THREAD.into()))
    }

    /// The namespace that `--netns NAME|PATH` names, or that of the calling thread. It is not entered.
    pub fn named(name_or_path: Option<&str>) -> Result<Self> {
        match name_or_path {
            None => Self::current(),
            Some(name) => Self::existing(&path_of(name)),
        }
    }

    /// The kernel's number for the calling thread's namespace, which programs know it by; 0 where the
    /// kernel doesn't tell.
    pub fn current_cookie() -> u64 {
        sockopt_impl!(
            /// `SO_NETNS_COOKIE`.
            Cookie,
            GetOnly,
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            u64
        );
        socket(
            AddressFamily::Unix,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .and_then(|socket| getsockopt(&socket, Cookie))
        .unwrap_or_default()
    }

    /// The namespace at `path`, or `None` when there is nothing, or only the empty file that a
    /// namespace was or will be mounted on.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).doing(|| format!("open {}", path.display())),
        };
        let metadata = file
            .metadata()
            .doing(|| format!("stat {}", path.display()))?;
        let filesystem = fstatfs(&file).doing(|| format!("statfs {}", path.display()))?;
        if filesystem.filesystem_type() == NSFS_MAGIC {
            let id = NetnsId {
                dev: metadata.dev(),
                inode: metadata.ino(),
            };
            return Ok(Some(Self {
                file,
                id,
                path: path.to_owned(),
            }));
        }
        if metadata.is_file() && metadata.len() == 0 {
            return Ok(None);
        }
        Err(Error::Foreign(format!(
            "{} is not a network namespace",
            path.display()
        )))
    }

    /// The namespace at `path`, which has to be there.
    pub fn existing(path: &Path) -> Result<Self> {
        Self::open(path)?.ok_or_else(|| Error::NoNetns(path.to_owned()))
    }

    /// Which namespace it is.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For `IFLA_NET_NS_FD`.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Moves the calling thread, and the threads it starts later, into this namespace.
    pub fn enter(&self) -> Result<()> {
        setns(self, CloneFlags::CLONE_NEWNET)
            .doing(|| format!("enter the network namespace {}", self.path.display()))
    }

    /// Runs `task` on a thread of its own inside this namespace and returns what it returned.
    ///
    /// # Panics
    ///
    /// When `task` does.
    pub fn run<T: Send>(&self, task: impl FnOnce() -> T + Send) -> Result<T> {
        on_own_thread(|| self.enter().map(|()| task()))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The path that `--netns NAME|PATH` means: a name stands in [`NAMED`].
pub fn path_of(name_or_path: &str) -> PathBuf {
    if name_or_path.contains('/') {
        return PathBuf::from(name_or_path);
    }
    Path::new(NAMED).join(name_or_path)
}

/// Makes a namespace and mounts it at `path`, unless there is one already. Its directory has to be
/// there, but for [`NAMED`].
pub fn create(path: &Path) -> Result<Done> {
    if Netns::open(path)?.is_some() {
        return Ok(Done::Already);
    }
    if path.parent() == Some(Path::new(NAMED)) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(NAMED)
            .doing(|| format!("create {NAMED}"))?;
        share_named()?;
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o444)
        .open(path)
        .doing(|| format!("create {}", path.display()))?;
    mount_new(path).inspect_err(|_| {
        // An empty file left behind reads as "no namespace", so that nothing is lost if this fails.
        let _ = fs::remove_file(path);
    })?;
    Ok(Done::Changed)
}

/// Unmounts and removes the namespace at `path`. Processes that are in it keep it alive.
pub fn delete(path: &Path) -> Result<Done> {
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(errno).doing(|| format!("unmount {}", path.display())),
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(Done::Changed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Done::Already),
        Err(error) => Err(error).doing(|| format!("remove {}", path.display())),
    }
}

/// Whether any process or any mount that we can see still holds the namespace. One that is held
/// by nothing but an open file somewhere counts as gone.
pub fn is_alive(id: NetnsId) -> Result<bool> {
    if mounted()?.contains(&id.inode) {
        return Ok(true);
    }
    let processes = fs::read_dir("/proc").doing(|| "list /proc".to_owned())?;
    Ok(processes
        .filter_map(io::Result::ok)
        .filter_map(|process| fs::metadata(process.path().join("ns/net")).ok())
        .any(|namespace| namespace.ino() == id.inode && namespace.dev() == id.dev))
}

/// Inodes of the network namespaces that are mounted somewhere in our mount namespace.
fn mounted() -> Result<HashSet<u64>> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")
        .doing(|| "read /proc/self/mountinfo".to_owned())?;
    Ok(mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(3))
        .filter_map(|root| root.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok())
        .collect())
}

/// Makes `/run/netns` a shared mount, as `ip netns add` does, so that a namespace that is made or
/// deleted in one mount namespace is so in all of them.
fn share_named() -> Result<()> {
    let directory = File::open(NAMED).doing(|| format!("open {NAMED}"))?;
    let _lock = Flock::lock(directory, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .doing(|| format!("lock {NAMED}"))?;
    let share = || mount(None::<&str>, NAMED, None::<&str>, shared(), None::<&str>);
    let Err(errno) = share() else { return Ok(()) };
    if errno != Errno::EINVAL {
        return Err(errno).doing(|| format!("make {NAMED} a shared mount"));
    }
    // It is no mount point yet.
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(NAMED), NAMED, None::<&str>, bind, None::<&str>)
        .doing(|| format!("bind {NAMED} to itself"))?;
    share().doing(|| format!("make {NAMED} a shared mount"))
}

fn shared() -> MsFlags {
    MsFlags::MS_SHARED | MsFlags::MS_REC
}

fn mount_new(path: &Path) -> Result<()> {
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).doing(|| "make a network namespace".to_owned())?;
        mount(
            Some(THIS_THREAD),
            path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .doing(|| format!("mount a network namespace at {}", path.display()))
    })
}

/// A thread that changed its namespace is not used for anything else.
fn on_own_thread<T: Send>(task: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| match scope.spawn(task).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
