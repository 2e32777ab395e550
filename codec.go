package dems

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The binary forms of log entries, results and registries. All integers are unsigned varints unless said otherwise;
// text is a length and its bytes. docs/formats.md draws them. Decoders accept exactly what encoders produce: what they
// accept encodes to the same bytes again.

// entryVersion is the first byte of every entry.
const entryVersion = 1

// The smallest binary forms, in bytes: nothing is allocated for elements that cannot be there.
const (
	minCommandBytes = 15 // getBookingSchedule: operation, time, who asks, empty key, customer
	minResultBytes  = 5  // code, outcome, flags, sequence, event type
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrMalformed is the cause of every decoding error.
var ErrMalformed = errors.New("malformed")

// AppendEntry appends the binary form of an entry: version, kind, payload, CRC-32C of everything before it (little endian).
func AppendEntry(dst []byte, entry *Entry) []byte {
	start := len(dst)
	dst = append(dst, entryVersion, byte(entry.Kind))
	switch entry.Kind {
	case BatchEntry:
		dst = appendBatch(dst, &entry.Batch)
	case VerdictEntry:
		dst = appendVerdict(dst, &entry.Verdict)
	case IncidentEntry:
		dst = AppendIncident(dst, &entry.Incident)
	case ReplacementEntry:
		dst = appendReplacement(dst, &entry.Replacement)
	case RestoreEntry:
		dst = AppendOrigin(dst, entry.Origin)
	default:
		dst = AppendRegistration(dst, &entry.Registration)
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// DecodeEntry is the inverse of AppendEntry. The entry shares no memory with data.
func DecodeEntry(data []byte) (Entry, error) {
	if len(data) > MaxEntryBytes {
		return Entry{}, fmt.Errorf("entry of %d bytes, at most %d: %w", len(data), MaxEntryBytes, ErrMalformed)
	}
	if len(data) < 6 || data[0] != entryVersion {
		return Entry{}, fmt.Errorf("entry: too short or of an unknown version: %w", ErrMalformed)
	}
	body := data[:len(data)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(data[len(data)-4:]) {
		return Entry{}, fmt.Errorf("entry: wrong checksum: %w", ErrMalformed)
	}
	entry := Entry{Kind: EntryKind(body[1])}
	d := &Decoder{data: body[2:]}
	switch entry.Kind {
	case BatchEntry:
		entry.Batch = decodeBatch(d)
	case RegisterNodeEntry, RegisterFrontEndEntry:
		entry.Registration = DecodeRegistration(d)
		d.check(ValidName(entry.Registration.ID), "registration without a valid ID")
		d.check(entry.Kind == RegisterNodeEntry || entry.Registration.Session != 0, "front end without a session")
	case VerdictEntry:
		entry.Verdict = decodeVerdict(d)
	case IncidentEntry:
		entry.Incident = DecodeIncident(d)
	case ReplacementEntry:
		entry.Replacement = decodeReplacement(d)
	case RestoreEntry:
		entry.Origin = DecodeOrigin(d)
		d.check(entry.Origin.Index > 0, "a backup of nothing")
	default:
		d.fail("unknown kind of entry")
	}
	if err := d.Finish(); err != nil {
		return Entry{}, fmt.Errorf("entry: %w", err)
	}
	return entry, nil
}

func appendBatch(dst []byte, batch *Batch) []byte {
	dst = binary.AppendUvarint(dst, batch.Session)
	dst = binary.AppendUvarint(dst, batch.Number)
	dst = binary.AppendUvarint(dst, uint64(len(batch.Commands)))
	for i := range batch.Commands {
		dst = AppendCommand(dst, &batch.Commands[i])
	}
	return dst
}

func decodeBatch(d *Decoder) Batch {
	batch := Batch{Session: d.Uvarint(), Number: d.Uvarint()}
	d.check(batch.Session != 0 && batch.Number != 0, "batch without a session or a number")
	count := d.Count(MaxBatchCommands)
	d.check(count > 0, "empty batch")
	d.check(count <= len(d.data)/minCommandBytes, "truncated")
	if d.err == nil {
		batch.Commands = make([]Command, count)
	}
	for i := range batch.Commands {
		batch.Commands[i] = DecodeCommand(d)
	}
	return batch
}

// AppendCommand appends the binary form of a command: operation, time in Unix milliseconds, who asks, key, and the
// parameters that the operation has.
func AppendCommand(dst []byte, c *Command) []byte {
	dst = append(dst, byte(c.Op))
	dst = binary.AppendUvarint(dst, uint64(max(0, c.Time.UnixMilli())))
	dst = appendUser(dst, c.By)
	dst = AppendText(dst, c.Key)
	if c.Op.ForCustomer() {
		dst = appendUser(dst, c.Customer)
	}
	if c.Op != GetBookingSchedule {
		dst = AppendEvent(dst, c.Event)
	}
	switch c.Op {
	case AddEvent:
		dst = binary.AppendUvarint(dst, uint64(c.Capacity))
	case RemoveEvent:
		dst = append(dst, byte(c.Bookings))
	case SwapEvent:
		dst = AppendEvent(dst, c.OldEvent)
	}
	return dst
}

// DecodeCommand is the inverse of AppendCommand. The command is not checked against any cities; Cities.Check does that.
func DecodeCommand(d *Decoder) Command {
	c := Command{Op: Op(d.Byte())}
	d.check(c.Op > 0 && c.Op < opCount, "unknown operation")
	c.Time = d.time()
	c.By = d.user()
	c.Key = d.Text(MaxKeyBytes)
	if c.Op.ForCustomer() {
		c.Customer = d.user()
	}
	if c.Op != GetBookingSchedule {
		c.Event = d.Event()
	}
	switch c.Op {
	case AddEvent:
		capacity := d.Uvarint()
		d.check(capacity <= MaxCapacity, "capacity too large")
		c.Capacity = uint32(capacity)
	case RemoveEvent:
		c.Bookings = BookingPolicy(d.Byte())
		d.check(c.Bookings < policyCount, "unknown booking policy")
	case SwapEvent:
		c.OldEvent = d.Event()
	}
	return c
}

// AppendRegistration appends the binary form of a registration.
func AppendRegistration(dst []byte, r *Registration) []byte {
	dst = AppendText(dst, r.ID)
	dst = AppendText(dst, r.Address)
	dst = AppendText(dst, r.Version)
	dst = binary.AppendUvarint(dst, uint64(max(0, r.Time.UnixMilli())))
	dst = binary.AppendUvarint(dst, r.Incarnation)
	dst = binary.AppendUvarint(dst, r.Session)
	return AppendText(dst, r.Cities)
}

// DecodeRegistration is the inverse of AppendRegistration.
func DecodeRegistration(d *Decoder) Registration {
	return Registration{
		ID: d.Text(MaxNameBytes), Address: d.Text(MaxNameBytes), Version: d.Text(MaxNameBytes),
		Time: d.time(), Incarnation: d.Uvarint(), Session: d.Uvarint(), Cities: d.Text(MaxCities * (MaxCityNameBytes + 5)),
	}
}

// AppendRegistry appends the binary form of a registry.
func AppendRegistry(dst []byte, r *Registry) []byte {
	dst = AppendText(dst, r.Cities.String())
	for _, list := range [][]Registration{r.Nodes, r.FrontEnds} {
		dst = binary.AppendUvarint(dst, uint64(len(list)))
		for i := range list {
			dst = AppendRegistration(dst, &list[i])
		}
	}
	return dst
}

// DecodeRegistry is the inverse of AppendRegistry.
func DecodeRegistry(data []byte) (Registry, error) {
	d := NewDecoder(data)
	text := d.Text(MaxCities * (MaxCityNameBytes + 5))
	lists := [2][]Registration{{}, {}}
	for i := range lists {
		for range d.Count(MaxRegistrations) {
			if lists[i] = append(lists[i], DecodeRegistration(d)); d.err != nil {
				break
			}
		}
	}
	if err := d.Finish(); err != nil {
		return Registry{}, fmt.Errorf("registry: %w", err)
	}
	cities, err := ParseCities(text)
	if err != nil {
		return Registry{}, fmt.Errorf("registry: %w: %w", err, ErrMalformed)
	}
	if cities.String() != text {
		return Registry{}, fmt.Errorf("registry: cities not in canonical form: %w", ErrMalformed)
	}
	return Registry{Cities: cities, Nodes: lists[0], FrontEnds: lists[1]}, nil
}

// AppendResults appends the binary form of results: how many, then each.
func AppendResults(dst []byte, results []Result) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(results)))
	for i := range results {
		dst = AppendResult(dst, &results[i])
	}
	return dst
}

// DecodeResults is the inverse of AppendResults. The results share no memory with data.
func DecodeResults(data []byte) ([]Result, error) {
	d := NewDecoder(data)
	count := d.Count(MaxBatchCommands)
	d.check(count <= len(d.data)/minResultBytes, "truncated")
	if d.err != nil {
		return nil, fmt.Errorf("results: %w", d.err)
	}
	results := make([]Result, count)
	for i := range results {
		results[i] = DecodeResult(d)
	}
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	return results, nil
}

// Result fields that are present, as bits of the flag byte.
const (
	hasReplayed = 1 << iota
	hasEvent
	hasBooking
	hasOld
	hasCustomer
	hasAffected
	hasEvents
	hasBookings
)

// AppendResult appends the binary form of a result: code, outcome, flags of what follows, sequence, event type, and the parts.
func AppendResult(dst []byte, r *Result) []byte {
	flags := byte(0)
	set := func(condition bool, flag byte) {
		if condition {
			flags |= flag
		}
	}
	set(r.Replayed, hasReplayed)
	set(r.Event != EventView{}, hasEvent)
	set(r.Booking != EventKey{}, hasBooking)
	set(r.Old != EventKey{}, hasOld)
	set(r.Customer != UserID{}, hasCustomer)
	set(len(r.Affected) > 0, hasAffected)
	set(len(r.Events) > 0, hasEvents)
	set(len(r.Bookings) > 0, hasBookings)
	dst = append(dst, byte(r.Code), byte(r.Outcome), flags)
	dst = binary.AppendUvarint(dst, r.Sequence)
	dst = append(dst, byte(r.Type))
	if flags&hasEvent != 0 {
		dst = appendEventView(dst, &r.Event)
	}
	if flags&hasBooking != 0 {
		dst = AppendEvent(dst, r.Booking)
	}
	if flags&hasOld != 0 {
		dst = AppendEvent(dst, r.Old)
	}
	if flags&hasCustomer != 0 {
		dst = appendUser(dst, r.Customer)
	}
	return appendResultLists(dst, r)
}

func appendResultLists(dst []byte, r *Result) []byte {
	if len(r.Affected) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(r.Affected)))
		for i := range r.Affected {
			dst = appendUser(dst, r.Affected[i].Customer)
			dst = append(dst, byte(r.Affected[i].Outcome))
			if r.Affected[i].Outcome == Rebooked {
				dst = AppendEvent(dst, r.Affected[i].Event)
			}
		}
	}
	if len(r.Events) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(r.Events)))
		for i := range r.Events {
			dst = appendEventView(dst, &r.Events[i])
		}
	}
	if len(r.Bookings) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(r.Bookings)))
		for i := range r.Bookings {
			dst = AppendEvent(dst, r.Bookings[i])
		}
	}
	return dst
}

// DecodeResult is the inverse of AppendResult.
func DecodeResult(d *Decoder) Result {
	r := Result{Code: Code(d.Byte()), Outcome: Outcome(d.Byte())}
	d.check(r.Code < codeCount && r.Outcome < outcomeCount, "unknown code or outcome")
	flags := d.Byte()
	r.Replayed = flags&hasReplayed != 0
	r.Sequence = d.Uvarint()
	r.Type = EventType(d.Byte())
	d.check(r.Type == 0 || r.Type.wellFormed(), "unknown event type")
	if flags&hasEvent != 0 {
		r.Event = d.eventView()
		d.check(r.Event != EventView{}, "empty event")
	}
	if flags&hasBooking != 0 {
		r.Booking = d.Event()
		d.check(r.Booking != EventKey{}, "empty booking")
	}
	if flags&hasOld != 0 {
		r.Old = d.Event()
		d.check(r.Old != EventKey{}, "empty old event")
	}
	if flags&hasCustomer != 0 {
		r.Customer = d.user()
		d.check(r.Customer != UserID{}, "empty customer")
	}
	decodeResultLists(d, &r, flags)
	return r
}

func decodeResultLists(d *Decoder, r *Result, flags byte) {
	if flags&hasAffected != 0 {
		r.Affected = make([]Affected, d.list(7))
		for i := range r.Affected {
			r.Affected[i] = Affected{Customer: d.user(), Outcome: Outcome(d.Byte())}
			if r.Affected[i].Outcome == Rebooked {
				r.Affected[i].Event = d.Event()
			} else {
				d.check(r.Affected[i].Outcome == Cancelled, "unknown outcome of a booking")
			}
		}
	}
	if flags&hasEvents != 0 {
		r.Events = make([]EventView, d.list(10))
		for i := range r.Events {
			r.Events[i] = d.eventView()
		}
	}
	if flags&hasBookings != 0 {
		r.Bookings = make([]EventKey, d.list(8))
		for i := range r.Bookings {
			r.Bookings[i] = d.Event()
		}
	}
}

// AppendText appends a length and the text.
func AppendText(dst []byte, text string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

// appendUser appends city (3 bytes), role (1), number (2, little endian).
func appendUser(dst []byte, u UserID) []byte {
	return append(dst, u.City[0], u.City[1], u.City[2], byte(u.Role), byte(u.Number), byte(u.Number>>8))
}

// AppendEvent appends type (1 byte), city (3), slot (1), year, month, day (1 each).
func AppendEvent(dst []byte, k EventKey) []byte {
	return append(dst, byte(k.Type), k.ID.City[0], k.ID.City[1], k.ID.City[2], byte(k.ID.Slot),
		k.ID.Date.Year, k.ID.Date.Month, k.ID.Date.Day)
}

func appendEventView(dst []byte, e *EventView) []byte {
	dst = AppendEvent(dst, e.Key)
	dst = binary.AppendUvarint(dst, uint64(e.Capacity))
	return binary.AppendUvarint(dst, uint64(e.Booked))
}
