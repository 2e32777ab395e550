package dems

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Decoder reads the binary forms. After the first error every read returns zero and Finish returns the error, so callers
// check once. It never reads beyond its data and never allocates more than a small multiple of it.
type Decoder struct {
	data []byte
	err  error
}

// NewDecoder returns a decoder of data, which it does not change or keep beyond what it returns.
func NewDecoder(data []byte) *Decoder { return &Decoder{data: data} }

// Finish returns the first error, or an error if data is left over.
func (d *Decoder) Finish() error {
	d.check(len(d.data) == 0, "trailing data")
	return d.err
}

// Err returns the first error so far.
func (d *Decoder) Err() error { return d.err }

// Rest returns how many bytes are left.
func (d *Decoder) Rest() int { return len(d.data) }

func (d *Decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", what, ErrMalformed)
	}
	d.data = nil
}

func (d *Decoder) check(condition bool, what string) {
	if !condition && d.err == nil {
		d.fail(what)
	}
}

// Byte reads one byte.
func (d *Decoder) Byte() byte {
	if len(d.data) == 0 {
		d.fail("truncated")
		return 0
	}
	value := d.data[0]
	d.data = d.data[1:]
	return value
}

// Bytes reads count bytes. They are part of the decoder's data, not a copy.
func (d *Decoder) Bytes(count int) []byte {
	if count < 0 || len(d.data) < count {
		d.fail("truncated")
		return nil
	}
	value := d.data[:count]
	d.data = d.data[count:]
	return value
}

// Uvarint reads an unsigned varint in its shortest form.
func (d *Decoder) Uvarint() uint64 {
	value, size := binary.Uvarint(d.data)
	if size <= 0 || size > 1 && d.data[size-1] == 0 {
		d.fail("bad varint")
		return 0
	}
	d.data = d.data[size:]
	return value
}

// Count reads a number of things of which there are at most limit.
func (d *Decoder) Count(limit int) int {
	count := d.Uvarint()
	if count > uint64(limit) {
		d.fail("too many")
		return 0
	}
	return int(count)
}

// list reads the length of a list that is not empty and whose elements have at least size bytes each.
func (d *Decoder) list(size int) int {
	count := d.Count(len(d.data) / size)
	d.check(count > 0, "empty list")
	return count
}

// Text reads a text of at most limit bytes and returns a copy.
func (d *Decoder) Text(limit int) string { return string(d.Bytes(d.Count(limit))) }

func (d *Decoder) time() time.Time {
	milliseconds := d.Uvarint()
	d.check(milliseconds < 1<<47, "time out of range")
	return time.UnixMilli(int64(milliseconds & (1<<47 - 1))).UTC()
}

func (d *Decoder) user() UserID {
	b := d.Bytes(6)
	if b == nil {
		return UserID{}
	}
	return UserID{City: City{b[0], b[1], b[2]}, Role: Role(b[3]), Number: uint16(b[4]) | uint16(b[5])<<8}
}

// Event reads an event key. It is not checked: the zero key and an event without a type are legal where they stand.
func (d *Decoder) Event() EventKey {
	b := d.Bytes(8)
	if b == nil {
		return EventKey{}
	}
	return EventKey{Type: EventType(b[0]), ID: EventID{
		City: City{b[1], b[2], b[3]}, Slot: Slot(b[4]), Date: Date{Year: b[5], Month: b[6], Day: b[7]},
	}}
}

func (d *Decoder) eventView() EventView {
	view := EventView{Key: d.Event()}
	capacity, booked := d.Uvarint(), d.Uvarint()
	d.check(capacity <= MaxCapacity && booked <= capacity, "impossible capacity")
	view.Capacity, view.Booked = uint32(capacity), uint32(booked)
	return view
}
