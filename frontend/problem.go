package frontend

import (
	"encoding/json"
	"net/http"
	"strconv"

	"dems"
)

// statuses maps each code to its HTTP status: the only place where that is decided.
var statuses = [...]int{
	dems.MalformedRequest:      http.StatusBadRequest,
	dems.InvalidUserID:         http.StatusBadRequest,
	dems.InvalidEventID:        http.StatusBadRequest,
	dems.InvalidEventType:      http.StatusBadRequest,
	dems.InvalidCapacity:       http.StatusBadRequest,
	dems.InvalidIdempotencyKey: http.StatusBadRequest,
	dems.Unauthenticated:       http.StatusUnauthorized,
	dems.ForbiddenRole:         http.StatusForbidden,
	dems.ForbiddenCity:         http.StatusForbidden,
	dems.ForbiddenCustomer:     http.StatusForbidden,
	dems.EventNotFound:         http.StatusNotFound,
	dems.NotBooked:             http.StatusNotFound,
	dems.NotFound:              http.StatusNotFound,
	dems.MethodNotAllowed:      http.StatusMethodNotAllowed,
	dems.PayloadTooLarge:       http.StatusRequestEntityTooLarge,
	dems.UnsupportedMediaType:  http.StatusUnsupportedMediaType,
	dems.AlreadyBooked:         http.StatusConflict,
	dems.EventFull:             http.StatusConflict,
	dems.MonthlyLimit:          http.StatusConflict,
	dems.CapacityBelowBooked:   http.StatusConflict,
	dems.HasBookings:           http.StatusConflict,
	dems.AmbiguousEventType:    http.StatusConflict,
	dems.SameEvent:             http.StatusConflict,
	dems.IdempotencyKeyReused:  http.StatusUnprocessableEntity,
	dems.RateLimited:           http.StatusTooManyRequests,
	dems.Unavailable:           http.StatusServiceUnavailable,
	dems.NoMajority:            http.StatusServiceUnavailable,
	dems.Indeterminate:         http.StatusGatewayTimeout,
	dems.Internal:              http.StatusInternalServerError,
}

// statusOf returns the HTTP status of a code. What is no code of a failure is a mistake of the front end.
func statusOf(code dems.Code) int {
	if int(code) < len(statuses) && statuses[code] != 0 {
		return statuses[code]
	}
	return http.StatusInternalServerError
}

// appendProblem appends a problem (RFC 9457). Without a detail it is the code's advice; sequence 0 is not known.
func appendProblem(dst []byte, code dems.Code, detail string, sequence uint64) []byte {
	if detail == "" {
		detail = code.Advice()
	}
	dst = append(dst, `{"type":"urn:dems:error:`...)
	dst = append(dst, code.String()...)
	dst = append(dst, `","title":`...)
	dst = appendJSONText(dst, code.Title())
	dst = append(dst, `,"status":`...)
	dst = strconv.AppendInt(dst, int64(statusOf(code)), 10)
	dst = append(dst, `,"detail":`...)
	dst = appendJSONText(dst, detail)
	dst = append(dst, `,"code":"`...)
	dst = append(dst, code.String()...)
	dst = append(dst, '"')
	if sequence > 0 {
		dst = append(dst, `,"sequence":`...)
		dst = strconv.AppendUint(dst, sequence, 10)
	}
	return append(dst, '}')
}

// appendJSONText appends text as a JSON string.
func appendJSONText(dst []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(text) // a string always has a JSON form
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"')
}
