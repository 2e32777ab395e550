package fsm

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"dems"
)

// workload makes entries of bookings that all succeed: foreign and home bookings of every customer, spread over events
// of many months.
type workload struct {
	cities  dems.Cities
	index   uint64
	number  uint64 // of the next batch
	booking int
	keys    bool
}

const workloadSession = 7

func newWorkload(keys bool) *workload { return &workload{cities: dems.DefaultCities(), keys: keys} }

func (w *workload) entry(commands []dems.Command) (uint64, []byte) {
	w.index++
	w.number++
	return w.index, dems.AppendEntry(nil, &dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
		Session: workloadSession, Number: w.number, Commands: commands,
	}})
}

// command returns booking number i. All 30,000 customers book once in each round, in no order of theirs; every round is
// another month, and two of three rounds take them to another city.
func (w *workload) command(i int) dems.Command {
	const customersInCity = 10_000
	cities := len(w.cities)
	customers := customersInCity * cities
	who, round := i%customers*7919%customers, i/customers // 7919 has no factor in common with 30,000
	user := dems.UserID{City: w.cities[who%cities].City, Role: dems.Customer, Number: uint16(who / cities)}
	key := workloadEvent(w.cities, who/cities%workloadVariants, round, (who+round)%cities)
	command := dems.Command{Op: dems.BookEvent, Time: workloadTime(i), By: user, Customer: user, Event: key}
	if w.keys {
		command.Key = "0b6c9e52-7d1f-4a58-9c3e-" + strconv.Itoa(100_000_000_000+i)
	}
	return command
}

func workloadTime(i int) time.Time { return time.UnixMilli(1_800_000_000_000 + int64(i)).UTC() }

func workloadEvent(cities dems.Cities, variant, round, city int) dems.EventKey {
	return dems.EventKey{Type: dems.EventTypes[variant%3], ID: dems.EventID{
		City: cities[city].City, Slot: dems.Slot(variant/3%3 + 1),
		Date: dems.Date{Year: uint8(round / 12), Month: uint8(round%12 + 1), Day: uint8(variant/9 + 1)},
	}}
}

const (
	workloadRounds   = 1200 // months in a century
	workloadVariants = 90   // events in a city and month: ten days of three slots of three types
)

// open opens the session and adds every event for a number of bookings.
func (w *workload) open(b testing.TB, m *Machine, bookings int) {
	w.index++
	mustApply(b, m, w.index, dems.AppendEntry(nil, &dems.Entry{Kind: dems.RegisterFrontEndEntry,
		Registration: dems.Registration{ID: "fe1", Session: workloadSession}}))
	rounds := bookings/(10_000*len(w.cities)) + 1
	if rounds > workloadRounds {
		b.Fatalf("%d rounds are more than there are months", rounds)
	}
	var commands []dems.Command
	for round := range rounds {
		for city := range w.cities {
			for variant := range workloadVariants {
				commands = append(commands, dems.Command{
					Op: dems.AddEvent, Time: workloadTime(0), Capacity: 10_000,
					By:    dems.UserID{City: w.cities[city].City, Role: dems.Manager, Number: 1},
					Event: workloadEvent(w.cities, variant, round, city),
				})
			}
		}
	}
	for len(commands) > 0 {
		count := min(len(commands), dems.MaxBatchCommands)
		index, data := w.entry(commands[:count])
		mustApply(b, m, index, data)
		commands = commands[count:]
	}
}

// next returns an entry with the next bookings.
func (w *workload) next(batch int) (uint64, []byte) {
	commands := make([]dems.Command, batch)
	for i := range commands {
		commands[i] = w.command(w.booking)
		w.booking++
	}
	return w.entry(commands)
}

func mustApply(b testing.TB, m *Machine, index uint64, data []byte) Applied {
	b.Helper()
	applied, err := m.Apply(index, data)
	if err != nil {
		b.Fatal(err)
	}
	return applied
}

// fill books until there are so many bookings.
func (w *workload) fill(b testing.TB, m *Machine, bookings int) {
	w.open(b, m, bookings)
	for w.booking < bookings {
		index, data := w.next(min(dems.MaxBatchCommands, bookings-w.booking))
		mustApply(b, m, index, data)
	}
	if count := countBookings(m); count != bookings {
		b.Fatalf("%d bookings and not %d", count, bookings)
	}
}

func countBookings(m *Machine) int {
	count := 0
	m.customers.Scan(func(_ uint64, c *customer) bool {
		count += c.bookings.Len()
		return true
	})
	return count
}

func benchmarkApply(b *testing.B, batch int, keys bool) {
	m, w := New(dems.DefaultCities()), newWorkload(keys)
	w.open(b, m, b.N+batch)
	b.ReportAllocs()
	b.ResetTimer()
	b.StopTimer()
	for done := 0; done < b.N; {
		// Entries are made outside the measured time, some at once because stopping the clock is slow.
		indexes, entries := make([]uint64, 0, 64), make([][]byte, 0, 64)
		for range 64 {
			index, data := w.next(batch)
			indexes, entries = append(indexes, index), append(entries, data)
		}
		b.StartTimer()
		for i, data := range entries {
			if done >= b.N {
				break
			}
			mustApply(b, m, indexes[i], data)
			done += batch
		}
		b.StopTimer()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bookings/s")
}

func BenchmarkApplyBooking(b *testing.B) {
	for _, batch := range []int{1, 64, dems.MaxBatchCommands} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) { benchmarkApply(b, batch, false) })
		b.Run(fmt.Sprintf("batch=%d/keys", batch), func(b *testing.B) { benchmarkApply(b, batch, true) })
	}
}

const millionBookings = 1_000_000

// BenchmarkDigest measures the digest as every entry forms it, and its recomputation from a million bookings.
func BenchmarkDigest(b *testing.B) {
	m, w := New(dems.DefaultCities()), newWorkload(false)
	w.fill(b, m, millionBookings)
	b.Run("incremental", func(b *testing.B) {
		for b.Loop() {
			m.Digest()
		}
	})
	b.Run("recompute", func(b *testing.B) {
		for b.Loop() {
			if m.Recompute() != m.Digest() {
				b.Fatal("they differ")
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/millionBookings, "ns/booking")
	})
	b.Run("invariants", func(b *testing.B) {
		for b.Loop() {
			if err := m.CheckInvariants(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSnapshot measures, with a million bookings and keys, how long Snapshot stalls Apply, how much slower the
// bookings after it are, and how long writing takes.
func BenchmarkSnapshot(b *testing.B) {
	m, w := New(dems.DefaultCities()), newWorkload(true)
	w.fill(b, m, millionBookings)
	b.Run("stall", func(b *testing.B) {
		for b.Loop() {
			m.Snapshot()
		}
	})
	b.Run("write", func(b *testing.B) {
		var size int64
		for b.Loop() {
			count, err := m.Snapshot().WriteTo(io.Discard)
			if err != nil {
				b.Fatal(err)
			}
			size = count
		}
		b.SetBytes(size)
		b.ReportMetric(float64(size)/(1<<20), "MiB")
	})
	b.Run("booking-after", func(b *testing.B) { // the first 512 bookings after each snapshot
		var elapsed time.Duration
		for range b.N {
			index, data := w.next(dems.MaxBatchCommands)
			m.Snapshot()
			start := time.Now()
			mustApply(b, m, index, data)
			elapsed += time.Since(start)
		}
		b.ReportMetric(float64(elapsed.Nanoseconds())/float64(b.N)/dems.MaxBatchCommands, "ns/booking")
	})
}

// BenchmarkRestore measures the restoring of a million bookings with their keys, checks included.
func BenchmarkRestore(b *testing.B) {
	m, w := New(dems.DefaultCities()), newWorkload(true)
	w.fill(b, m, millionBookings)
	data := snapshotBytes(b, m.Snapshot())
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Restore(bytes.NewReader(data), m.Cities()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead measures queries on a machine with a million bookings.
func BenchmarkRead(b *testing.B) {
	m, w := New(dems.DefaultCities()), newWorkload(false)
	w.fill(b, m, millionBookings)
	manager := dems.UserID{City: w.cities[0].City, Role: dems.Manager, Number: 1}
	for name, command := range map[string]dems.Command{
		"schedule": {Op: dems.GetBookingSchedule, By: manager, Customer: dems.UserID{City: w.cities[0].City, Role: dems.Customer, Number: 5}},
		"event":    {Op: dems.GetEvent, By: manager, Event: workloadEvent(w.cities, 0, 0, 0)},
		"list":     {Op: dems.ListEventAvailability, By: manager, Event: dems.EventKey{Type: dems.Seminar}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.Query(&dems.Query{Kind: dems.OperationQuery, Command: command})
			}
		})
	}
}

// BenchmarkRemoval measures the removal of an event with thousands of bookings that all move.
func BenchmarkRemoval(b *testing.B) {
	for range b.N {
		b.StopTimer()
		m, w := New(dems.DefaultCities()), newWorkload(false)
		w.fill(b, m, 300_000)
		key := workloadEvent(w.cities, 0, 0, 0)
		_, e := m.find(key)
		bookings := e.booked()
		index, data := w.entry([]dems.Command{{Op: dems.RemoveEvent, Time: workloadTime(0), Event: key,
			By: dems.UserID{City: key.ID.City, Role: dems.Manager}}})
		b.StartTimer()
		mustApply(b, m, index, data)
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(bookings), "ns/booking")
	}
}

// BenchmarkMemory reports the live heap of a machine with a million bookings, without and with a million keys, and the
// resident memory of the process after filling it.
func BenchmarkMemory(b *testing.B) {
	for _, keys := range []bool{false, true} {
		b.Run(fmt.Sprintf("keys=%t", keys), func(b *testing.B) {
			for b.Loop() {
				before := liveHeap()
				m, w := New(dems.DefaultCities()), newWorkload(keys)
				w.fill(b, m, millionBookings)
				resident := residentBytes(b)
				b.ReportMetric(float64(liveHeap()-before)/(1<<20), "live-MiB")
				b.ReportMetric(float64(resident)/(1<<20), "resident-MiB")
				runtime.KeepAlive(m)
			}
		})
	}
}

func liveHeap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// residentBytes returns the largest resident set of this process so far, in bytes.
func residentBytes(b *testing.B) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc/self/status")
	}
	for line := range strings.Lines(string(status)) {
		if text, found := strings.CutPrefix(line, "VmHWM:"); found {
			kibibytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "kB")), 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kibibytes << 10
		}
	}
	b.Skip("no VmHWM")
	return 0
}
