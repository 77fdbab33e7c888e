//! Users and groups from `/proc/PID/status` (proc_pid_status(5)).

/// Most groups that are kept; Linux allows 65,536.
pub const MAX_GROUPS: usize = 64;
/// Enough for everything before the list of groups, and for [`MAX_GROUPS`] of them.
pub(super) const MAX_STATUS: u64 = 8192;

/// The numbers of users and groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ids {
    pub(super) uid: u32,
    pub(super) effective_uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

impl Ids {
    /// The name in the first line cannot forge another line: the kernel escapes line breaks in it.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        // A number cut in the middle must not be read as a shorter one.
        let whole = &bytes[..memchr::memrchr2(b'\n', b' ', bytes)?];
        let text = String::from_utf8_lossy(whole);
        let numbers = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_ascii_whitespace().map_while(|number| number.parse().ok()).take(MAX_GROUPS).collect::<Vec<u32>>())
        };
        let users = numbers("Uid:")?;
        Some(Self {
            uid: *users.first()?,
            effective_uid: *users.get(1)?,
            gid: *numbers("Gid:")?.first()?,
            groups: numbers("Groups:").unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_past_any_name() {
        let text = b"Name:\tUid:\\n0\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nGid:\t100\t5\t5\t5\nFDSize:\t64\nGroups:\t4 24 27 \nNStgid:\t1\n";
        assert_eq!(Ids::parse(text), Some(Ids { uid: 1000, effective_uid: 0, gid: 100, groups: vec![4, 24, 27] }));
    }

    #[test]
    fn a_long_list_of_groups_is_cut_between_two_numbers() {
        let mut text = b"Uid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t".to_vec();
        (0..10).for_each(|_| text.extend_from_slice(b"123456 "));
        text.extend_from_slice(b"999");
        assert_eq!(Ids::parse(&text).map(|ids| ids.groups), Some(vec![123_456; 10]));
        (0..5000).for_each(|_| text.extend_from_slice(b" 7"));
        assert_eq!(Ids::parse(&text).map(|ids| ids.groups.len()), Some(MAX_GROUPS));
    }

    #[test]
    fn without_users_there_is_no_answer() {
        for text in [&b""[..], b"Name:\tx\n", b"Uid:\t1\nGid:\t1\n", b"Uid:\tx x\nGid:\t1\n"] {
            assert_eq!(Ids::parse(text), None);
        }
    }
}
