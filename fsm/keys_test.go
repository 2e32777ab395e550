package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"dems"
)

func TestKeysAreSeparateForUsers(t *testing.T) {
	h := newHarness(t)
	h.want(dems.OK, add("TORM0001", "seminar", "TORM100519", 5))
	for _, customer := range []string{"TORC0001", "TORC0002", "MTLC0001"} {
		if result := h.want(dems.OK, withKey(book(customer, "seminar", "TORM100519"), "same")); result.Replayed {
			t.Errorf("%s got somebody else's result", customer)
		}
	}
}

// TestKeyKnowsItsRequest changes one parameter at a time.
func TestKeyKnowsItsRequest(t *testing.T) {
	h := newHarness(t)
	h.want(dems.OK, add("TORM0001", "seminar", "TORM100519", 5))
	h.want(dems.OK, add("TORM0001", "seminar", "TORA100519", 5))
	swap := dems.Command{Op: dems.SwapEvent, By: user("TORM0001"), Customer: user("TORC0001"), Key: "k",
		Event: key("seminar", "TORM100519"), OldEvent: key("seminar", "TORA100519")}
	first := h.want(dems.NotBooked, swap)
	changes := map[string]func(*dems.Command){
		"operation": func(c *dems.Command) { c.Op = dems.BookEvent },
		"customer":  func(c *dems.Command) { c.Customer = user("TORC0002") },
		"event":     func(c *dems.Command) { c.Event = key("seminar", "TORE100519") },
		"type":      func(c *dems.Command) { c.Event = key("conference", "TORM100519") },
		"old event": func(c *dems.Command) { c.OldEvent = key("seminar", "TORE100519") },
	}
	for name, change := range changes {
		other := swap
		change(&other)
		if result := h.want(dems.IdempotencyKeyReused, other); result.Replayed || result.Sequence != h.index {
			t.Errorf("%s: %+v", name, result)
		}
	}
	swap.Time = h.now.Add(time.Hour) // the time is not part of the request
	if result := h.want(dems.NotBooked, swap); !result.Replayed || result.Sequence != first.Sequence {
		t.Errorf("%+v", result)
	}
	capacity := withKey(add("TORM0001", "seminar", "TORM110519", 5), "k2")
	h.want(dems.OK, capacity)
	capacity.Capacity = 6
	h.want(dems.IdempotencyKeyReused, capacity)
	policy := withKey(remove("TORM0001", "seminar", "TORM110519", dems.Rebook), "k3")
	h.want(dems.OK, policy)
	policy.Bookings = dems.CancelBookings
	h.want(dems.IdempotencyKeyReused, policy)
}

func TestKeyTwiceInOneBatch(t *testing.T) {
	h := newHarness(t)
	h.want(dems.OK, add("TORM0001", "seminar", "TORM100519", 5))
	command := withKey(book("TORC0001", "seminar", "TORM100519"), "k")
	results := h.do(command, command)
	if results[0].Replayed || !results[1].Replayed || results[1].Code != dems.OK {
		t.Errorf("%+v", results)
	}
	if len(h.last.Records) != 1 {
		t.Errorf("%d records of one effect", len(h.last.Records))
	}
}

func TestMalformedRequestIsNotStored(t *testing.T) {
	h := newHarness(t)
	command := withKey(add("TORM0001", "seminar", "TORM100519", 0), "k")
	h.want(dems.InvalidCapacity, command)
	command.Capacity = 3
	if result := h.want(dems.OK, command); result.Replayed {
		t.Error("replayed")
	}
	command.Key = "not visible\n"
	h.want(dems.InvalidIdempotencyKey, command)
	if h.machine.keys.count != 1 {
		t.Errorf("%d keys", h.machine.keys.count)
	}
}

func TestReadsHaveNoKeys(t *testing.T) {
	h := newHarness(t)
	schedule := dems.Command{Op: dems.GetBookingSchedule, By: user("TORC0001"), Customer: user("TORC0001"), Key: "k"}
	h.want(dems.OK, add("TORM0001", "seminar", "TORM100519", 5))
	h.want(dems.OK, schedule)
	h.want(dems.OK, book("TORC0001", "seminar", "TORM100519"))
	if result := h.want(dems.OK, schedule); len(result.Bookings) != 1 || result.Replayed {
		t.Errorf("%+v", result)
	}
}

func TestOldestKeysGiveWayByCount(t *testing.T) {
	h := newHarness(t)
	h.machine.limits.keys = 3
	command := func(i int) dems.Command {
		return withKey(add("TORM0001", "seminar", "TORM100519", uint32(i)), fmt.Sprint("k", i))
	}
	for i := 1; i <= 5; i++ {
		h.want(dems.OK, command(i))
	}
	if h.machine.keys.count != 3 {
		t.Errorf("%d keys", h.machine.keys.count)
	}
	if result := h.want(dems.OK, command(3)); !result.Replayed {
		t.Error("the third last key is forgotten")
	}
	if result := h.want(dems.OK, command(2)); result.Replayed {
		t.Error("the fourth last key is remembered")
	}
}

func TestKeysGiveWayByAge(t *testing.T) {
	h := newHarness(t)
	command := withKey(add("TORM0001", "seminar", "TORM100519", 1), "k")
	h.want(dems.OK, command)
	h.now = h.now.Add(24 * time.Hour)
	if result := h.want(dems.OK, command); !result.Replayed || h.machine.keys.count != 1 {
		t.Error("forgotten within 24 hours")
	}
	other := add("TORM0001", "seminar", "TORA100519", 1)
	other.Time = h.now.Add(-48 * time.Hour) // log time does not go back
	h.want(dems.OK, other)
	h.now = h.now.Add(time.Millisecond)
	h.want(dems.OK, add("TORM0001", "seminar", "TORA100519", 1))
	if h.machine.keys.count != 0 {
		t.Errorf("%d keys", h.machine.keys.count)
	}
	if result := h.want(dems.OK, command); result.Replayed {
		t.Error("remembered after 24 hours")
	}
}

func TestExpiredKeysGoAFewAtATime(t *testing.T) {
	h := newHarness(t)
	h.machine.limits.expiredKeys = 4
	for i := range 10 {
		h.want(dems.OK, withKey(add("TORM0001", "seminar", "TORM100519", 1), fmt.Sprint("k", i)))
	}
	h.now = h.now.Add(25 * time.Hour)
	for _, left := range []int{6, 2, 0} {
		h.want(dems.OK, add("TORM0001", "seminar", "TORA100519", 1))
		if h.machine.keys.count != left {
			t.Errorf("%d keys, want %d", h.machine.keys.count, left)
		}
	}
}

func TestKeysGiveWayBySize(t *testing.T) {
	h := newHarness(t)
	h.machine.limits.keyBytes = 200
	for i := range 20 {
		h.want(dems.OK, withKey(add("TORM0001", "seminar", "TORM100519", 1), fmt.Sprint("k", i)))
	}
	if count, size := h.machine.keys.count, h.machine.keys.bytes; size > 200 || count < 2 || count > 5 {
		t.Errorf("%d keys in %d bytes", count, size)
	}
}

// TestKeyTable compares the table with a list, through many chunks, records larger than a chunk, and copies.
func TestKeyTable(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var table keyTable
	table.prepare([]session{{id: 12345}})
	var list []keyRecord
	var copies []keyTable
	var contents [][]keyRecord
	for i := range 20_000 / slowdown {
		if len(list) > 0 && random.IntN(100) < 45 {
			table.pop()
			list = list[1:]
		} else {
			result := []byte(strings.Repeat("x", random.IntN(60)))
			if random.IntN(500) == 0 {
				result = make([]byte, keyChunkBytes+random.IntN(100))
			}
			name := nameOfKey(user("TORC0001"), fmt.Sprint(i))
			table.push(appendKeyRecord(nil, name, uint64(i), uint64(i)<<20, result))
			list = append(list, keyRecord{name: name, fingerprint: uint64(i), time: uint64(i) << 20, result: result})
		}
		if random.IntN(2000) == 0 {
			copies, contents = append(copies, table.copy()), append(contents, slices.Clone(list))
		}
	}
	compareKeys(t, &table, list)
	for i := range copies {
		compareKeys(t, &copies[i], contents[i])
	}
	for _, record := range list {
		if found, ok := table.find(record.name); !ok || found.fingerprint != record.fingerprint {
			t.Fatalf("key %d is not found", record.fingerprint)
		}
	}
	for i := range list[0].fingerprint {
		if _, found := table.find(nameOfKey(user("TORC0001"), fmt.Sprint(i))); found {
			t.Fatalf("key %d is found after it was forgotten", i)
		}
	}
	for table.count > 0 {
		table.pop()
	}
	if table.index.count != 0 || table.bytes != 0 || len(table.chunks) != 0 {
		t.Errorf("of an empty table %d names, %d bytes, %d chunks are left", table.index.count, table.bytes, len(table.chunks))
	}
}

func compareKeys(t *testing.T, table *keyTable, list []keyRecord) {
	t.Helper()
	at := 0
	table.each(func(record keyRecord) bool {
		want := list[at]
		if record.name != want.name || record.fingerprint != want.fingerprint || record.time != want.time ||
			string(record.result) != string(want.result) {
			t.Fatalf("record %d is %d, want %d", at, record.fingerprint, want.fingerprint)
		}
		at++
		return true
	})
	if at != len(list) || table.count != len(list) {
		t.Fatalf("%d records, counted as %d, want %d", at, table.count, len(list))
	}
}

// TestKeyIndexUnderCollisions fills one small table so that everything collides, and empties it in another order.
func TestKeyIndexUnderCollisions(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var table keyIndexTable
	index := &keyIndex{}
	tags := map[keyPlace]uint32{}
	same := func(place keyPlace) func(keyPlace) bool {
		return func(other keyPlace) bool { return other == place }
	}
	for i := range 5000 {
		place := keyPlace{uint16(i), uint16(i)}
		if random.IntN(2) == 0 || len(tags) == 0 {
			tag := uint32(random.IntN(4)*1024 + random.IntN(3) + 1)
			if (table.count+1)*4 > len(table.slots)*3 {
				table.grow()
			}
			table.put(keySlot{tag, place})
			table.count++
			tags[place] = tag
		} else {
			for gone, tag := range tags { // any of them
				index.remove(&table, table.find(tag, same(gone)))
				delete(tags, gone)
				break
			}
		}
		if i%100 == 0 {
			for place, tag := range tags {
				if table.find(tag, same(place)) < 0 {
					t.Fatalf("step %d: place %d is not found", i, place.chunk)
				}
			}
		}
	}
	if table.count != len(tags) {
		t.Errorf("%d slots of %d", table.count, len(tags))
	}
}
