// Package test holds what needs the real programs: it builds demsd and demsctl once, runs whole clusters of processes,
// kills them, damages their files, and checks what clients see. Everything in it is a test; go test ./test runs it.
//
// It kills only processes that it started. It is the one package whose tests take seconds.
package test
