package main

import (
	"errors"

	"dems"
	"dems/client"
)

// The exit statuses.
const (
	exitDone          = 0
	exitRefused       = 1 // the system refused it: a business rule, or something that does not exist; a drill did not pass
	exitUsage         = 2 // wrong usage; also where a file, the user log or standard output cannot be read or written
	exitUnavailable   = 3 // certainly not applied, or no answer has a majority: try again later
	exitIndeterminate = 4 // it may have been applied: ask again under the same key
)

// exitStatuses maps each code to an exit status: the only place where that is decided.
var exitStatuses = map[dems.Code]int{
	dems.OK:                    exitDone,
	dems.MalformedRequest:      exitUsage,
	dems.InvalidUserID:         exitUsage,
	dems.InvalidEventID:        exitUsage,
	dems.InvalidEventType:      exitUsage,
	dems.InvalidCapacity:       exitUsage,
	dems.InvalidIdempotencyKey: exitUsage,
	dems.Unauthenticated:       exitUsage,
	dems.ForbiddenRole:         exitRefused,
	dems.ForbiddenCity:         exitRefused,
	dems.ForbiddenCustomer:     exitRefused,
	dems.EventNotFound:         exitRefused,
	dems.NotBooked:             exitRefused,
	dems.NotFound:              exitRefused,
	dems.MethodNotAllowed:      exitRefused,
	dems.PayloadTooLarge:       exitRefused,
	dems.UnsupportedMediaType:  exitRefused,
	dems.AlreadyBooked:         exitRefused,
	dems.EventFull:             exitRefused,
	dems.MonthlyLimit:          exitRefused,
	dems.CapacityBelowBooked:   exitRefused,
	dems.HasBookings:           exitRefused,
	dems.AmbiguousEventType:    exitRefused,
	dems.SameEvent:             exitRefused,
	dems.IdempotencyKeyReused:  exitRefused,
	dems.RateLimited:           exitUnavailable,
	dems.Unavailable:           exitUnavailable,
	dems.NoMajority:            exitUnavailable,
	dems.Indeterminate:         exitIndeterminate,
	dems.Internal:              exitIndeterminate,
}

// exitStatus returns the exit status for an error. What is not the client's error is wrong usage: cobra's errors are.
func exitStatus(err error) int {
	if err == nil {
		return exitDone
	}
	if _, ok := errors.AsType[*verdictError](err); ok {
		return exitRefused
	}
	if failed, ok := errors.AsType[*client.Error](err); ok {
		if status, known := exitStatuses[failed.Code]; known {
			return status
		}
		return exitIndeterminate
	}
	return exitUsage
}
