//! Programs by name: those that a text must name to be taken for a command, and those that read or write the files they are given.

use std::{collections::HashSet, sync::LazyLock};

/// Programs that are no words of a language: behind a mark of a shell they are commands.
static PROGRAMS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    named(
        "sh bash zsh dash ksh ash fish curl wget nc ncat netcat socat telnet ssh scp sftp ftp tftp rsync python python2 \
    python3 perl ruby node php lua awk gawk sed grep egrep rm rmdir mv cp ln dd chmod chown chattr mkdir mkfifo mknod mkfs whoami id \
    uname hostname ifconfig ipconfig netstat ps ss lsof env printenv export ls pwd cat tac xxd od strings base64 base32 openssl gpg \
    nohup sudo su doas crontab systemctl useradd usermod passwd kill killall pkill ping ping6 nslookup dig traceroute nmap busybox \
    powershell pwsh cmd certutil bitsadmin mshta rundll32 regsvr32 wmic schtasks calc iex iwr invoke-expression xargs eval docker \
    kubectl git npm npx pip pip3 tar unzip gunzip vssadmin reg shutdown",
    )
});
/// Programs whose names are words as well: they are commands where what follows looks like an argument.
static WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    named(
        "echo printf touch sleep find head tail more less cut sort split tee time test kill at watch who w last top date \
    host net dir type del copy move start set zip source exec screen",
    )
});
/// Programs that read the files that they are given, and show, send, pack or copy them.
static READERS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    named(
        "cat tac less more head tail nl strings xxd od hexdump base64 base32 grep egrep fgrep rg zgrep awk gawk sed cut \
    sort uniq paste tr rev fold cp mv scp sftp rsync tar zip 7z gzip bzip2 xz zcat dd openssl curl wget nc ncat gpg age sqlite3 type \
    get-content gc copy copy-item xcopy robocopy rclone aws gsutil gh git bat batcat ln cpio install jq yq diff cmp vim nano \
    compress-archive",
    )
});
/// Of those, the ones whose last word is where it goes.
static COPIERS: LazyLock<HashSet<&str>> = LazyLock::new(|| named("cp mv scp rsync ln install copy xcopy robocopy"));
/// Programs that write into each file that they are given.
static WRITERS: LazyLock<HashSet<&str>> = LazyLock::new(|| named("tee truncate set-content add-content out-file touch"));

/// The words of a list in which blanks part them: they are looked up for each command.
fn named(list: &'static str) -> HashSet<&'static str> {
    list.split_ascii_whitespace().collect()
}

/// True if the words begin as a command does.
pub(super) fn is_command(name: &str, next: Option<&str>) -> bool {
    let of_windows = name == "net" && next.is_some_and(|next| matches!(next, "user" | "localgroup" | "group" | "view" | "use" | "share"));
    PROGRAMS.contains(name)
        || of_windows
        || WORDS.contains(name)
            && next
                .is_none_or(|next| next.starts_with(|c: char| !c.is_alphabetic()) || next.contains(['/', '=']) || next.starts_with("http"))
}

/// True if the program reads what it is given.
pub(super) fn reads(name: &str) -> bool {
    READERS.contains(name)
}

/// True if the last word of the program's command line is where it writes.
pub(super) fn copies(name: &str) -> bool {
    COPIERS.contains(name)
}

/// True if the program writes into what it is given.
pub(super) fn writes(name: &str) -> bool {
    WRITERS.contains(name)
}

/// True if the program is a shell, which takes commands from its input.
pub(super) fn is_shell(name: &str) -> bool {
    matches!(name, "sh" | "bash" | "zsh" | "dash" | "ksh" | "ash" | "fish")
}
