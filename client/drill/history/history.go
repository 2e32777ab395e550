// Package history is what clients saw of a cluster during a drill: operations, with the times at which they were sent and
// answered. It owns the record of one operation, the recorder that clients share, and the file that a history is kept in. It
// judges nothing; it starts no goroutine.
package history

import (
	"time"

	"dems"
)

// Outcome is what a client knows of its operation.
type Outcome uint8

// The outcomes.
const (
	Answered Outcome = iota + 1 // there is a definite answer: a success, or a refusal by the rules
	Failed                      // it was certainly not applied, and never will be
	Unknown                     // it may have been applied at any time since the call, or may still be
	outcomeCount
)

var outcomeNames = [outcomeCount]string{Answered: "answered", Failed: "failed", Unknown: "unknown"}

// String returns answered, failed or unknown.
func (o Outcome) String() string {
	if o == 0 || o >= outcomeCount {
		return "none"
	}
	return outcomeNames[o]
}

// Operation is one operation as its client saw it, with all attempts: they have one key and so one effect.
type Operation struct {
	Number uint64 // in the order of the calls, from 1
	// Group is the events and customers that it is about. What is done in one group changes no answer in another one.
	Group  int
	Client int           // who waits for one answer at a time, from 0
	Call   time.Duration // when it was sent first, since the history began
	Return time.Duration // when its outcome was known; of an unknown one, when its client gave up
	// Command is what was asked for. Its time is zero: the front end sets it.
	Command dems.Command
	Outcome Outcome
	// Result is the answer; Answered only. A refusal has its code. Of a list and a schedule it has the group's events alone.
	Result dems.Result
	// Error is what the client was told where there is no answer, for people.
	Error string
}
