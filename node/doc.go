// Package node is one replica: a member of the Raft cluster that applies the log to the state machine, votes on what it
// got, answers reads, and keeps the city logs.
//
// It owns Raft and everything in the data folder (packages storage and citylog below it), the ring of recent votes, and
// the rules of what a node may answer when: nothing before it has caught up with what it knew before a restart, and
// nothing ever again after a write failed or an entry could not be applied.
//
// It never decides what a command does (package fsm) and never speaks to clients: front ends come through package
// transport, and compare what several nodes say.
//
// Open starts no goroutine. Run owns all that the node has: Raft's own, one that writes the city logs, one for each peer
// that tells it of commits, one each for registration and for finding out when the node is ready, and one for each
// proposal in flight. All have ended when Run returns.
package node
