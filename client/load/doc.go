// Package load puts a front end under load and reports what came of it.
//
// It owns the load: events of its own, which it makes before and removes after, operations on them over a fixed number
// of persistent connections, and the measurement. It never counts a refusal as a success, and never asks again: what a
// client would hide by retrying is counted. Because it shares its machine with the servers in most tests, the loop writes
// requests and reads answers by hand instead of through net/http. Run starts a goroutine for each connection and one for
// the progress, and waits for all of them.
//
// It says itself who asks, with the header Dems-User, so it needs a front end whose authentication is off.
package load
