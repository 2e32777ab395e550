// Package simulation plays a whole cluster from a seed, in one goroutine and in simulated time: front ends that vote and count
// strikes, nodes whose replica managers judge each other, and replacements, while messages are late or lost, nodes crash, hang and
// are cut off, leaders change, and up to a minority of the nodes is wrong. The same seed gives the same trace, line for line.
//
// What decides is the code that ships: voting.Box and voting.Strikes, verdict.Records and verdict.Plan, fsm.Machine, and
// storage.ProveRemoval. What drives it in package node and package frontend, with goroutines and connections, is played here step
// for step. Raft is played as a log that keeps what it has committed and sometimes loses what it has not.
//
// A reference machine applies the same log. After every event the simulation knows what has to hold: no client gets another
// answer than the reference, nobody is convicted who was right all its life, no voter is emptied, one node at a time is replaced;
// and at the end, when the network has healed, all nodes are voters again and equal.
package simulation
