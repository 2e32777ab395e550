package backup_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"dems"
	"dems/backup"
)

// refuse expects that a backup is damaged.
func refuse(t *testing.T, data []byte, what string, at int) {
	t.Helper()
	if _, _, err := backup.Verify(bytes.NewReader(data)); !errors.Is(err, backup.ErrDamaged) {
		t.Fatalf("%s at byte %d of %d: %v", what, at, len(data), err)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	data := real(t).bytes(t)
	for at := range data {
		damaged := slices.Clone(data)
		damaged[at] ^= 1 << (at % 8)
		refuse(t, damaged, "flipped", at)
		if _, err := read(bytes.NewReader(damaged)); !errors.Is(err, backup.ErrDamaged) {
			t.Fatalf("read with a flipped bit at byte %d: %v", at, err)
		}
	}
}

func TestEveryTruncationIsFound(t *testing.T) {
	data := real(t).bytes(t)
	for at := range data {
		refuse(t, data[:at], "cut", at)
	}
	refuse(t, append(slices.Clone(data), 0), "longer", len(data))
	refuse(t, append(slices.Clone(data), data...), "twice", len(data))
}

// TestDamageWithRightChecksums changes every byte and makes all checksums of the backup right again, so that the checks of
// what it holds have to find it.
func TestDamageWithRightChecksums(t *testing.T) {
	data, found := real(t).bytes(t), 0
	for at := range len(data) - sha256.Size {
		damaged := slices.Clone(data)
		damaged[at] ^= 1 << (at % 8)
		if repair(damaged) && !bytes.Equal(damaged, data) {
			found++
			refuse(t, damaged, "changed", at)
		}
	}
	if found < len(data)/2 {
		t.Errorf("only %d of %d bytes were tried", found, len(data))
	}
}

// repair makes the checksums of a backup right. It returns false if the chunks do not end where they should.
func repair(data []byte) bool {
	at := 9
	for {
		if at >= len(data) {
			return false
		}
		if data[at] == 4 {
			break
		}
		if at+5 > len(data) {
			return false
		}
		end := uint64(at) + 5 + uint64(binary.LittleEndian.Uint32(data[at+1:]))
		if end+4 > uint64(len(data)) {
			return false
		}
		binary.LittleEndian.PutUint32(data[end:], crc32.Checksum(data[at:end], crc32.MakeTable(crc32.Castagnoli)))
		at = int(end) + 4
	}
	if at+1+sha256.Size != len(data) {
		return false
	}
	checksum := sha256.Sum256(data[:at+1])
	copy(data[at+1:], checksum[:])
	return true
}

// chunks makes a backup of chunks, each a kind and a payload, with right checksums.
func chunks(all ...[]byte) []byte {
	data := []byte("DEMSBACK\x01")
	for _, chunk := range all {
		data = binary.LittleEndian.AppendUint32(append(data, chunk[0]), uint32(len(chunk)-1))
		data = append(append(data, chunk[1:]...), 0, 0, 0, 0)
	}
	data = append(append(data, 4), make([]byte, sha256.Size)...)
	repair(data)
	return data
}

// TestOneFormOnly gives readers backups that hold the right things in another form than writers give them.
func TestOneFormOnly(t *testing.T) {
	const chunk = 256 << 10
	c := made([]byte("ab"))
	long := strings.Repeat("x", 60_000) + "\n"
	c.log(c.head.Cities[0].City, long, long, long, long, long, "y\n")
	c.log(c.head.Cities[1].City)
	c.log(c.head.Cities[2].City, "z\n")
	whole := c.bytes(t)
	headLength := int(binary.LittleEndian.Uint32(whole[10:]))
	head := slices.Concat([]byte{1}, whole[14:14+headLength])
	state, city := []byte("\x02ab"), "\x03"+c.head.Cities[0].City.String()
	first, second := []byte(city+long+long+long+long), []byte(city+long+"y\n")
	last := []byte("\x03" + c.head.Cities[2].City.String() + "z\n")
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"as it is written":      {chunks(head, state, first, second, last), ""},
		"no chunks":             {chunks(), "does not begin with its head"},
		"no state":              {chunks(head, first, second, last), "no state"},
		"no head":               {chunks(state, first, second, last), "does not begin with its head"},
		"two heads":             {chunks(head, head, state, first, second, last), "kind 1 after one of kind 1"},
		"head later":            {chunks(state, head, first, second, last), "does not begin with its head"},
		"state later":           {chunks(head, first, state, second, last), "no state"},
		"state in two pieces":   {chunks(head, []byte("\x02a"), []byte("\x02b"), first, second, last), "1 bytes only"},
		"a state of nothing":    {chunks(head, []byte("\x02"), first, second, last), "a chunk of 0 bytes"},
		"a chunk too long":      {chunks(head, append([]byte{2}, make([]byte, chunk+1)...)), "a chunk of 262145 bytes"},
		"a head too long":       {chunks(append([]byte{1}, make([]byte, 16<<10+1)...)), "a chunk of 16385 bytes"},
		"a longer head":         {chunks(append(slices.Clone(head), 0), state), "trailing"},
		"a shorter head":        {chunks(head[:len(head)-1], state), "truncated"},
		"kind 0":                {chunks([]byte{0, 1}), "kind 0 after one of kind 0"},
		"kind 5":                {chunks(head, state, []byte{5, 1}), "kind 5 after one of kind 2"},
		"a log split elsewhere": {chunks(head, state, []byte(city+long+long+long), []byte(city+long+long+"y\n"), last), "bytes only"},
		"a log in one chunk":    {chunks(head, state, []byte(city+long+long+long+long+long+"y\n"), last), "a chunk of 3000"},
		"a log is missing":      {chunks(head, state, last), "has 0 records"},
		"half a log":            {chunks(head, state, first, last), "has 4 records"},
		"the last is missing":   {chunks(head, state, first, second), "has 0 records"},
		"logs in another order": {chunks(head, state, last, first, second), "has 0 records"},
		"a log of nobody":       {chunks(head, state, first, second, []byte("\x03ABCz\n")), "has 0 records"},
		"records of no city":    {chunks(head, state, first, second, []byte("\x03ab")), "without a record"},
		"a city alone":          {chunks(head, state, first, second, []byte("\x03MTL")), "without a record"},
		"half a record":         {chunks(head, state, first, second, []byte("\x03TORz")), "no line"},
		"a record more":         {chunks(head, state, first, second, []byte("\x03TORz\nz\n")), "more than 1"},
		"another record":        {chunks(head, state, first, second, []byte("\x03TORy\n")), "chain digest"},
		"no backup":             {[]byte("DEMSSNAP\x01 and so on"), "no backup"},
		"another version":       {[]byte("DEMSBACK\x02 and so on"), "version 2 of the format"},
	} {
		_, err := read(bytes.NewReader(test.data))
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (!errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		}
	}
}

// TestHeadOfAnotherState gives states and records a head that is not theirs, with right checksums everywhere.
func TestHeadOfAnotherState(t *testing.T) {
	for name, change := range map[string]func(*content){
		"another index":  func(c *content) { c.head.Origin.Index++ },
		"another digest": func(c *content) { c.head.Origin.Digest[3]++ },
		"one record less": func(c *content) {
			city, lines := c.head.Cities[0].City, c.lines[c.head.Cities[0].City]
			*c = content{head: c.head, state: c.state, lines: map[dems.City][]byte{
				c.head.Cities[1].City: c.lines[c.head.Cities[1].City], c.head.Cities[2].City: c.lines[c.head.Cities[2].City],
			}}
			all, logs := strings.SplitAfter(string(lines), "\n"), c.head.Logs
			c.head.Logs = nil
			c.log(city, all[:len(all)-2]...)
			c.head.Logs = append(c.head.Logs, logs[1:]...)
		},
		"another state": func(c *content) { c.state = real(t).state[:len(c.state)-1] },
		"other cities": func(c *content) {
			c.head.Cities = slices.Clone(c.head.Cities)
			c.head.Cities[0].Name = "Elsewhere"
		},
	} {
		c := real(t)
		change(c)
		_, _, err := backup.Verify(bytes.NewReader(c.bytes(t)))
		if !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadErrorsArePassedOn(t *testing.T) {
	data, broken := real(t).bytes(t), errors.New("broken")
	for length := 0; length <= len(data); length += max(1, min(37, len(data)-length)) {
		reader := io.MultiReader(bytes.NewReader(data[:length]), iotest.ErrReader(broken))
		if _, _, err := backup.Verify(reader); !errors.Is(err, broken) || errors.Is(err, backup.ErrDamaged) {
			t.Fatalf("after %d bytes: %v", length, err)
		}
		if length == len(data) {
			break
		}
	}
}

// TestErrorsStay goes on asking after damage was found.
func TestErrorsStay(t *testing.T) {
	data := real(t).bytes(t)
	data[bytes.LastIndex(data, []byte("TOR{"))+50] ^= 1 // in the last city's records
	r, err := backup.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for records := 0; err == nil; records++ {
		if _, _, err = r.Records(); records > 2 {
			t.Fatal("the damage is not found")
		}
	}
	for range 3 {
		if _, _, err := r.Records(); !errors.Is(err, backup.ErrDamaged) {
			t.Fatal(err)
		}
		if _, err := r.State().Read(make([]byte, 1)); !errors.Is(err, backup.ErrDamaged) {
			t.Fatal(err)
		}
	}
}

// FuzzReader looks for input that makes readers panic, or that they accept although writers write something else. The input is
// tried as it is, and with its checksums made right.
func FuzzReader(f *testing.F) {
	whole := real(f).bytes(f)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	c := made([]byte("state"))
	c.log(c.head.Cities[0].City)
	c.log(c.head.Cities[1].City, "a\n", "b\n")
	c.log(c.head.Cities[2].City, "c\n")
	f.Add(c.bytes(f))
	f.Add(chunks())
	f.Fuzz(func(t *testing.T, data []byte) {
		for range 2 {
			got, err := read(bytes.NewReader(data))
			switch {
			case err == nil && !bytes.Equal(got.bytes(t), data):
				t.Fatal("written again, it is another backup")
			case err != nil && !errors.Is(err, backup.ErrDamaged):
				t.Fatalf("an error of another kind: %v", err)
			}
			if _, _, verified := backup.Verify(bytes.NewReader(data)); verified == nil && err != nil {
				t.Fatalf("verified, but read with %v", err)
			}
			data = slices.Clone(data)
			if !repair(data) {
				return
			}
		}
	})
}
