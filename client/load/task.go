package load

import (
	"bytes"
	"math/rand/v2"
	"strconv"

	"dems"
)

// kind is a kind of request.
type kind uint8

const (
	book kind = iota
	cancel
	schedule
	show
	kinds
)

var kindNames = [kinds]string{"bookEvent", "cancelEvent", "getBookingSchedule", "getEvent"}

// task is one request.
type task struct {
	kind     kind
	by       dems.UserID
	customer dems.UserID // not of show
	event    dems.EventKey
}

// choose returns the next task.
func (s *stage) choose(mix Mix, random *rand.Rand) task {
	if mix == Read || mix == Mixed && random.Uint64()&1 == 0 {
		read := s.seeded[random.IntN(len(s.seeded))]
		if random.Uint64()&1 == 0 {
			return task{kind: schedule, by: read.customer, customer: read.customer, event: read.event}
		}
		return task{kind: show, by: manager(read.event.ID.City), event: read.event}
	}
	event := s.events[random.IntN(len(s.events))]
	turn := event.next.Add(1) - 1
	available := max(s.customers-event.base, 1)
	customer := s.customer(event, event.base+turn%available)
	t := task{kind: book, by: customer, customer: customer, event: event.key}
	if turn/available%2 == 1 {
		t.kind = cancel
	}
	return t
}

// appendRequest appends the HTTP request of a task. Without a key no key is sent.
func appendRequest(dst []byte, to *endpoint, t *task, key []byte) []byte {
	switch t.kind {
	case book:
		dst = append(dst, "POST "...)
	case cancel:
		dst = append(dst, "DELETE "...)
	default:
		dst = append(dst, "GET "...)
	}
	dst = appendPath(append(dst, to.prefix...), t)
	dst = append(append(dst, " HTTP/1.1\r\nHost: "...), to.host...)
	dst = t.by.AppendText(append(dst, "\r\nDems-User: "...))
	if len(key) > 0 && (t.kind == book || t.kind == cancel) {
		dst = append(append(dst, "\r\nIdempotency-Key: "...), key...)
	}
	if t.kind != book {
		return append(dst, "\r\n\r\n"...)
	}
	const start, middle, end = `{"eventType":"`, `","eventID":"`, `"}`
	length := len(start) + len(t.event.Type.String()) + len(middle) + 10 + len(end)
	dst = append(dst, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(length), 10)
	dst = append(append(dst, "\r\n\r\n"+start...), t.event.Type.String()...)
	dst = t.event.ID.AppendText(append(dst, middle...))
	return append(dst, end...)
}

// appendPath appends the path and the query of a task.
func appendPath(dst []byte, t *task) []byte {
	if t.kind == show {
		dst = append(append(dst, "/v1/events/"...), t.event.Type.String()...)
		return t.event.ID.AppendText(append(dst, '/'))
	}
	dst = t.customer.AppendText(append(dst, "/v1/customers/"...))
	dst = append(dst, "/bookings"...)
	if t.kind == cancel {
		dst = t.event.ID.AppendText(append(dst, '/'))
		dst = append(append(dst, "?eventType="...), t.event.Type.String()...)
	}
	return dst
}

// wanted is, for each kind, the status of a success and what its body has.
var wanted = [kinds]struct {
	status int
	text   []byte
}{
	book:     {201, []byte(`"outcome":"booked"`)},
	cancel:   {200, []byte(`"outcome":"cancelled"`)},
	schedule: {200, []byte(`"bookings":[{`)}, // the customer has the booking that was made beforehand
	show:     {200, []byte(`"available":`)},
}

// judge returns "" for a success that answers the task, and otherwise the code.
func judge(t *task, status int, body []byte) string {
	want := &wanted[t.kind]
	if status == want.status {
		id := [10]byte{}
		if bytes.Contains(body, want.text) && bytes.Contains(body, t.event.ID.AppendText(id[:0])) {
			return ""
		}
		return wrongAnswer
	}
	_, rest, found := bytes.Cut(body, []byte(`"code":"`))
	code, _, ended := bytes.Cut(rest, []byte(`"`))
	if !found || !ended || status < 400 {
		return wrongAnswer
	}
	return string(code)
}

// What an operation is counted under that brought no code.
const (
	wrongAnswer  = "wrong_answer"  // an answer, but not to the question
	noConnection = "no_connection" // nothing was sent
	noAnswer     = "no_answer"     // sent, but the connection broke or the time was over
)

// isFailure tells whether a code says that the system did not do its work; the others are refusals.
func isFailure(name string) bool {
	code, known := dems.ParseCode(name)
	if !known {
		return true
	}
	switch code {
	case dems.Unavailable, dems.NoMajority, dems.Indeterminate, dems.Internal, dems.RateLimited:
		return true
	}
	return false
}
