// Package dems is the domain of DEMS, a highly available, software-failure-tolerant store for events and bookings.
//
// It owns the words that every other package speaks: identifiers with strict parsing and one canonical form, event
// types, the chronological order of events, the seven operations and their results, error codes, limits, the binary
// form of log entries and results, and what front ends and replicas say to each other. It depends on nothing but the
// standard library, does no I/O, reads no clock and starts no goroutine.
package dems
