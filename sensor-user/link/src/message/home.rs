//! Home directories, which processes of their owners read.

use serde::{Deserialize, Serialize};

/// When home directories are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Homes {
    /// Where the sensor looks at all of the host.
    OfTheHost,
    /// Also where it looks at a part, as homes belong to none.
    Always,
}
