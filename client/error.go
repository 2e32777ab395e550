package client

import (
	"errors"
	"time"

	"dems"
)

// Error is why an operation did not succeed. Every error of a Client's operations is one, except those of the user log.
type Error struct {
	// Code says why. Act on it alone. After Unavailable the operation was certainly not applied; after Indeterminate,
	// NoMajority and Internal it may have been, or may still be: ask again under the same key.
	Code dems.Code
	// Status is the HTTP status of the last answer; 0 where no front end answered.
	Status int
	// Detail is a sentence that tells people what to do.
	Detail string
	// Sequence is the log index that ordered the request; 0 where it is not known.
	Sequence uint64
	// Key is the idempotency key of the operation, to ask again under; "" for reads.
	Key string
	// Endpoint is the front end that gave the last answer or failed last; "" where none was asked.
	Endpoint string
	// RetryAfter is how long the front end asked to wait; 0 where it did not say.
	RetryAfter time.Duration
	// Body is the problem document as the front end sent it; nil where no front end answered.
	Body []byte
	// Err is what happened underneath, for example a refused connection; nil where a front end answered.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Code.String() + ": " + e.Detail
	if e.Err != nil {
		text += " (" + e.Err.Error() + ")"
	}
	return text
}

// Unwrap returns the error as the domain knows it, so that dems.CodeOf works, and the cause.
func (e *Error) Unwrap() []error {
	unwrapped := []error{&dems.Error{Code: e.Code, Detail: e.Detail}}
	if e.Err != nil {
		unwrapped = append(unwrapped, e.Err)
	}
	return unwrapped
}

// refusal is an error that the client itself gives before anything is sent.
func refusal(code dems.Code) *Error { return &Error{Code: code, Detail: code.Advice()} }

// errNotDEMS is the cause where something answered, but not as a front end does.
var errNotDEMS = errors.New("the answer is not a DEMS front end's")
