// Package verdict decides who is wrong, and what is to be done about it next.
//
// Records compares the members' votes, as one node's replica manager has them, and finds those that differ from a
// majority. Plan decides which step of a replacement comes next, from the replicated standings and configuration and from
// what the members say of themselves.
//
// It is pure: no clock, no I/O, no goroutine. Package node drives it; so does the simulation, from a seed.
package verdict
