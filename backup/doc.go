// Package backup owns the form of backups: the state at one index, as fsm writes it, and the ordered records of the city logs
// up to there, in chunks with checksums. docs/formats.md draws it.
//
// It writes and reads streams, a chunk at a time, and says of every byte whether it is what was written: Verify knows without
// a node whether a backup holds the state and the records that its head names. It accepts exactly what it writes: what it
// accepts gives the same bytes again.
//
// It opens no files, never builds a state, and starts no goroutine.
package backup
