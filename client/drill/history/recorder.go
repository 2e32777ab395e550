package history

import (
	"errors"
	"strings"
	"sync"
	"time"

	"dems"
)

// MaxOperations is how many operations a history has at most, in memory and in a file. A million are some hundred megabytes.
const MaxOperations = 1_000_000

// MaxErrorBytes is how much of what a client was told is kept, in bytes.
const MaxErrorBytes = 512

// ErrFull is what Begin returns at the limit.
var ErrFull = errors.New("the history is full: end the drill, or let it last less long, with fewer clients or a lower rate")

// Recorder collects what clients do. It is safe for concurrent use.
type Recorder struct {
	began time.Time
	now   func() time.Time
	limit int

	// lock guards the list and every operation in it. The times of calls are read under it, so that numbers and calls have one
	// order.
	lock    sync.Mutex
	pending []*Pending
}

// Pending is an operation that was begun. It is settled by Answer or Fail; until then, and after Lose, its outcome is unknown.
// What is settled stays as it is. It is safe for concurrent use.
type Pending struct {
	recorder  *Recorder
	operation Operation
}

// NewRecorder begins a history of at most limit operations; 0 means MaxOperations, and there are never more. Time is counted
// from now on.
func NewRecorder(limit int) *Recorder { return newRecorder(limit, time.Now) }

// newRecorder takes the clock, which has to be monotonic.
func newRecorder(limit int, now func() time.Time) *Recorder {
	if limit <= 0 || limit > MaxOperations {
		limit = MaxOperations
	}
	return &Recorder{began: now(), now: now, limit: limit}
}

// Began returns when the history began.
func (r *Recorder) Began() time.Time { return r.began }

// Elapsed returns how long ago the history began, by the monotonic clock.
func (r *Recorder) Elapsed() time.Duration { return r.now().Sub(r.began) }

// Begin records that a client is about to send an operation. At the limit it returns ErrFull: the operation must not be sent
// then, because a history that lacks something that happened proves nothing. What was begun before can still be settled.
func (r *Recorder) Begin(group, client int, command dems.Command) (*Pending, error) {
	command.Time = time.Time{}
	r.lock.Lock()
	defer r.lock.Unlock()
	if len(r.pending) >= r.limit {
		return nil, ErrFull
	}
	call := r.Elapsed()
	p := &Pending{recorder: r, operation: Operation{
		Number: uint64(len(r.pending)) + 1, Group: group, Client: client, Call: call, Return: call, Command: command,
	}}
	r.pending = append(r.pending, p)
	return p, nil
}

// Answer records the answer, as of now. It may come after Lose: the operation was asked for again under its key. The result's
// lists are kept and must not be changed any more.
func (p *Pending) Answer(result dems.Result) { p.settle(Answered, result, "") }

// Fail records that the operation was certainly not applied and never will be. After Lose it stays unknown: that a later
// attempt failed says nothing of the earlier one.
func (p *Pending) Fail(err error) { p.settle(Failed, dems.Result{}, errorText(err)) }

// Lose records that the client gave up without knowing whether the operation was, or will be, applied.
func (p *Pending) Lose(err error) { p.settle(Unknown, dems.Result{}, errorText(err)) }

// Number returns the operation's number.
func (p *Pending) Number() uint64 { return p.operation.Number }

func (p *Pending) settle(outcome Outcome, result dems.Result, message string) {
	p.recorder.lock.Lock()
	defer p.recorder.lock.Unlock()
	o := &p.operation
	switch {
	case o.Outcome == Answered || o.Outcome == Failed:
		return
	case o.Outcome == Unknown && outcome == Failed:
		outcome = Unknown
	}
	o.Outcome, o.Return, o.Result, o.Error = outcome, p.recorder.Elapsed(), result, message
}

// errorText returns what is kept of an error: valid UTF-8 of at most MaxErrorBytes.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	text := strings.ToValidUTF8(err.Error(), "?")
	if len(text) > MaxErrorBytes {
		text = strings.ToValidUTF8(text[:MaxErrorBytes], "")
	}
	return text
}

// Operations returns what was recorded up to now, in the order of the calls. What is still on its way is Unknown, as of now. The
// lists in results are shared and must not be changed.
func (r *Recorder) Operations() []Operation {
	r.lock.Lock()
	defer r.lock.Unlock()
	now := r.Elapsed()
	operations := make([]Operation, len(r.pending))
	for i, p := range r.pending {
		operations[i] = p.operation
		if o := &operations[i]; o.Outcome == 0 {
			o.Outcome, o.Return, o.Error = Unknown, now, "there was no answer yet"
		}
	}
	return operations
}
