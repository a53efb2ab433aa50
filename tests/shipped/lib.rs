//! The suites and examples that need only what users have, compiled against the library as it
//! ships: without the feature `internals`, and so without planted bugs and what only tests call.
