// Package citylog keeps the city logs of one node: DIR/<CITY>.log, one JSON line an operation, and beside each log
// DIR/<CITY>.index, checkpoints that tell how many ordered records lie before an offset.
//
// It owns these files. Ordered records, those of mutating operations, are numbered from 0 and are identical on every
// node; the records of reads lie between them and belong to the node alone. A line tells which it is by its operation.
//
// After a crash the log is cut where its lines stop being whole. The records that are missing then are those that Raft
// replays, because Sync makes the log durable before a snapshot is kept. What is missing beyond that, because the node
// took over another node's snapshot or because the files were damaged, is fetched from the peers and counts only when
// its chain digest is the one in the replicated state.
//
// It never decides what a record says and never applies commands. Run is one goroutine that writes all files; while a
// log has a gap, Run starts another that fetches, and waits for it before it returns.
package citylog
