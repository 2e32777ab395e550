// Package storage is the part of a node's data folder that must never be lost: who the node is (node.json), the Raft log
// with terms and votes (raft.db), and the snapshots.
//
// It owns the checks at the start: a folder of another node, a log or a snapshot that is missing, damaged or does not
// fit the rest is an error that says what to do, never a start with less than the node knew. While the node runs, a write
// that fails is reported once and ends the goroutine of Raft that wanted it: Raft itself would go on with a log whose end
// it does not know, or panic.
//
// It also empties the folder of a node that was removed, so that the next incarnation can begin. That takes the proof that a
// majority of the cluster knows of the removal; there is no other way to delete anything.
//
// And it fills a folder from a backup, which the first node that opens it takes over: it then begins a log that follows on that
// state, as every node of the new cluster does.
//
// It never interprets commands beyond checking that they can be decoded, never repairs anything, and starts no goroutine.
package storage
