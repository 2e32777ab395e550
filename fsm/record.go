package fsm

import (
	"strconv"
	"time"

	"dems"
)

// AppendRecord appends the line that a city log has for an operation: a JSON object and a line feed. The same command and
// result give the same bytes everywhere. It is used for reads, too; result.Sequence is the record's "seq". Parameters
// that are not well-formed, which only a refusal for its syntax can have, are left out.
func AppendRecord(dst []byte, command *dems.Command, result *dems.Result) []byte {
	if isSyntax(result.Code) {
		wellFormed := withoutMalformed(command)
		command = &wellFormed
	}
	dst = append(dst, `{"time":"`...)
	dst = appendTime(dst, command.Time)
	dst = append(dst, `","seq":`...)
	dst = strconv.AppendUint(dst, result.Sequence, 10)
	dst = append(dst, `,"op":"`...)
	dst = append(dst, command.Op.String()...)
	dst = append(dst, '"')
	dst = appendUser(dst, `,"by":"`, command.By)
	if command.Customer != command.By {
		dst = appendUser(dst, `,"for":"`, command.Customer)
	}
	dst = appendParameters(dst, command)
	if result.Code != dems.OK {
		dst = append(dst, `,"status":"failed","response":{"code":"`...)
		dst = append(dst, result.Code.String()...)
		dst = append(dst, `","text":"`...)
	} else {
		dst = append(dst, `,"status":"completed","response":{`...)
		if result.Outcome != dems.NoOutcome {
			dst = append(dst, `"outcome":"`...)
			dst = append(dst, result.Outcome.String()...)
			dst = append(dst, `",`...)
		}
		dst = append(dst, `"text":"`...)
	}
	dst = result.AppendText(dst, command) // plain ASCII without quotes, as a test makes sure
	return append(dst, "\"}}\n"...)
}

// appendParameters appends the parameters of an operation, in the order and under the names that requests have.
func appendParameters(dst []byte, command *dems.Command) []byte {
	dst = appendUser(dst, `,"customerID":"`, command.Customer)
	switch command.Op {
	case dems.GetBookingSchedule:
	case dems.ListEventAvailability:
		dst = appendEventType(dst, `,"eventType":"`, command.Event.Type)
	case dems.SwapEvent:
		dst = appendEventID(dst, `,"newEventID":"`, command.Event.ID)
		dst = appendEventType(dst, `,"newEventType":"`, command.Event.Type)
		dst = appendEventID(dst, `,"oldEventID":"`, command.OldEvent.ID)
		dst = appendEventType(dst, `,"oldEventType":"`, command.OldEvent.Type)
	default:
		dst = appendEventID(dst, `,"eventID":"`, command.Event.ID)
		dst = appendEventType(dst, `,"eventType":"`, command.Event.Type)
	}
	switch command.Op {
	case dems.AddEvent:
		dst = append(dst, `,"capacity":`...)
		dst = strconv.AppendUint(dst, uint64(command.Capacity), 10)
	case dems.RemoveEvent:
		dst = append(dst, `,"bookings":"`...)
		dst = append(dst, command.Bookings.String()...)
		dst = append(dst, '"')
	}
	if command.Key != "" {
		dst = append(dst, `,"key":"`...)
		dst = appendEscaped(dst, command.Key)
		dst = append(dst, '"')
	}
	return dst
}

func appendUser(dst []byte, name string, user dems.UserID) []byte {
	if user == (dems.UserID{}) {
		return dst
	}
	return append(user.AppendText(append(dst, name...)), '"')
}

func appendEventID(dst []byte, name string, id dems.EventID) []byte {
	if id == (dems.EventID{}) {
		return dst
	}
	return append(id.AppendText(append(dst, name...)), '"')
}

func appendEventType(dst []byte, name string, eventType dems.EventType) []byte {
	if eventType == 0 {
		return dst
	}
	dst = append(append(dst, name...), eventType.String()...)
	return append(dst, '"')
}

// appendEscaped appends visible ASCII text as the inside of a JSON string.
func appendEscaped(dst []byte, text string) []byte {
	for i := range len(text) {
		if text[i] == '"' || text[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, text[i])
	}
	return dst
}

// appendTime appends a time in UTC to the millisecond, as 2026-11-22T11:35:37.123Z. Years have four digits: the largest
// time that a log entry carries is in 6429.
func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = append(dst, "0000-00-00T00:00:00.000Z"...)
	text := dst[len(dst)-24:]
	putDigits(text[0:4], year)
	putDigits(text[5:7], int(month))
	putDigits(text[8:10], day)
	putDigits(text[11:13], hour)
	putDigits(text[14:16], minute)
	putDigits(text[17:19], second)
	putDigits(text[20:23], t.Nanosecond()/1e6)
	return dst
}

// putDigits fills digits with the last decimal digits of number.
func putDigits(digits []byte, number int) {
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + number%10)
		number /= 10
	}
}

// isSyntax tells whether a code refuses a request for its syntax.
func isSyntax(code dems.Code) bool {
	return code >= dems.MalformedRequest && code <= dems.InvalidIdempotencyKey
}

// withoutMalformed returns a command without the parameters that have no canonical form.
func withoutMalformed(command *dems.Command) dems.Command {
	clean := *command
	if !isUser(clean.By) {
		clean.By = dems.UserID{}
	}
	if !isUser(clean.Customer) {
		clean.Customer = dems.UserID{}
	}
	for _, event := range []*dems.EventKey{&clean.Event, &clean.OldEvent} {
		if id, ok := dems.ParseEventID(event.ID.String()); !ok || id != event.ID {
			event.ID = dems.EventID{}
		}
		if event.Type.String() == "" {
			event.Type = 0
		}
	}
	if !dems.ValidKey(clean.Key) {
		clean.Key = ""
	}
	return clean
}

func isUser(user dems.UserID) bool {
	parsed, ok := dems.ParseUserID(user.String())
	return ok && parsed == user
}

// RecordCities appends the cities whose logs have a record of a command that was answered with code: that of the user,
// and those of the events that the command names, none twice. Of a request that is refused for its syntax, it is the
// user's alone, or none if it is no user of ours.
func RecordCities(dst []dems.City, cities dems.Cities, command *dems.Command, code dems.Code) []dems.City {
	first := len(dst)
	add := func(city dems.City) {
		for _, other := range dst[first:] {
			if other == city {
				return
			}
		}
		dst = append(dst, city)
	}
	if isSyntax(code) {
		if isUser(command.By) && cities.Has(command.By.City) {
			add(command.By.City)
		}
		return dst
	}
	add(command.By.City)
	if command.Event.ID != (dems.EventID{}) && command.Op != dems.ListEventAvailability {
		add(command.Event.ID.City)
	}
	if command.Op == dems.SwapEvent {
		add(command.OldEvent.ID.City)
	}
	return dst
}
