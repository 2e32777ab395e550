package frontend

import (
	"strconv"

	"dems"
)

// The bodies of successful operations, appended by hand: they are on the path of every request, and their texts are
// identifiers and words that need no escaping.

// appendOutcome appends the body of an operation that succeeded.
func appendOutcome(dst []byte, op dems.Op, r *dems.Result) []byte {
	switch op {
	case dems.ListEventAvailability:
		return appendEventList(dst, r)
	case dems.GetBookingSchedule:
		return appendSchedule(dst, r)
	case dems.GetEvent:
		dst = append(dst, `{"event":`...)
		dst = appendEvent(dst, &r.Event)
		return append(dst, '}')
	}
	dst = append(dst, `{"outcome":"`...)
	dst = append(dst, r.Outcome.String()...)
	switch op {
	case dems.AddEvent:
		dst = append(dst, `","event":`...)
		dst = appendEvent(dst, &r.Event)
	case dems.RemoveEvent:
		dst = append(dst, `","event":`...)
		dst = appendEvent(dst, &r.Event)
		dst = appendAffected(dst, r.Affected)
	case dems.SwapEvent:
		dst = append(dst, `","old":{`...)
		dst = appendEventKey(dst, r.Old)
		dst = append(dst, `},"new":{`...)
		dst = appendEventKey(dst, r.Booking)
		dst = append(dst, '}')
	default:
		dst = append(dst, `","booking":{"customerID":"`...)
		dst = r.Customer.AppendText(dst)
		dst = append(dst, `",`...)
		dst = appendEventKey(dst, r.Booking)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// appendEventKey appends the two fields that identify an event, without braces.
func appendEventKey(dst []byte, key dems.EventKey) []byte {
	dst = append(dst, `"eventID":"`...)
	dst = key.ID.AppendText(dst)
	dst = append(dst, `","eventType":"`...)
	dst = append(dst, key.Type.String()...)
	return append(dst, '"')
}

// appendPlace appends the fields that identify an event, and its city, without braces.
func appendPlace(dst []byte, key dems.EventKey) []byte {
	dst = appendEventKey(dst, key)
	dst = append(dst, `,"city":"`...)
	dst = append(dst, key.ID.City[:]...)
	return append(dst, '"')
}

func appendEvent(dst []byte, event *dems.EventView) []byte {
	dst = append(dst, '{')
	dst = appendPlace(dst, event.Key)
	dst = append(dst, `,"capacity":`...)
	dst = strconv.AppendUint(dst, uint64(event.Capacity), 10)
	dst = append(dst, `,"booked":`...)
	dst = strconv.AppendUint(dst, uint64(event.Booked), 10)
	dst = append(dst, `,"available":`...)
	dst = strconv.AppendUint(dst, uint64(event.Available()), 10)
	return append(dst, '}')
}

func appendAffected(dst []byte, affected []dems.Affected) []byte {
	dst = append(dst, `,"affected":[`...)
	for i := range affected {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"customerID":"`...)
		dst = affected[i].Customer.AppendText(dst)
		dst = append(dst, `","outcome":"`...)
		dst = append(dst, affected[i].Outcome.String()...)
		if affected[i].Outcome == dems.Rebooked {
			dst = append(dst, `","eventID":"`...)
			dst = affected[i].Event.ID.AppendText(dst)
		}
		dst = append(dst, `"}`...)
	}
	return append(dst, ']')
}

func appendEventList(dst []byte, r *dems.Result) []byte {
	dst = append(dst, `{"eventType":"`...)
	dst = append(dst, r.Type.String()...)
	dst = append(dst, `","events":[`...)
	for i := range r.Events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendEvent(dst, &r.Events[i])
	}
	return append(dst, "]}"...)
}

func appendSchedule(dst []byte, r *dems.Result) []byte {
	dst = append(dst, `{"customerID":"`...)
	dst = r.Customer.AppendText(dst)
	dst = append(dst, `","bookings":[`...)
	for i := range r.Bookings {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		dst = appendPlace(dst, r.Bookings[i])
		dst = append(dst, '}')
	}
	return append(dst, "]}"...)
}

// location returns the address of what a request made, or "". A booking's is the one that cancels it; its schedule is
// one segment up.
func location(op dems.Op, r *dems.Result) string {
	switch {
	case op == dems.AddEvent && r.Outcome == dems.Created:
		return "/v1/events/" + r.Event.Key.String()
	case op == dems.BookEvent:
		dst := make([]byte, 0, 80)
		dst = append(dst, "/v1/customers/"...)
		dst = r.Customer.AppendText(dst)
		dst = append(dst, "/bookings/"...)
		dst = r.Booking.ID.AppendText(dst)
		dst = append(dst, "?eventType="...)
		return string(append(dst, r.Booking.Type.String()...))
	}
	return ""
}
