//! qcow2: subclusters, encryption, compressed streams.
