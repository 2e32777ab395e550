// Package fsm is the deterministic state machine of DEMS: what every node does with the replicated log.
//
// It owns the state (cities with their events and bookings, the customer index, the registry, the exactly-once tables, who
// is a member, where each node stands and what happened), the rules that change it, its digest, the records of the city
// logs and the form of snapshots. The same entries in the same order give the same state, the same results and the same
// bytes on every node.
//
// It never reads a clock, draws a random number, does I/O of its own, looks into the order of a Go map, or starts a
// goroutine. Time comes with the commands. It knows nothing of Raft.
package fsm
