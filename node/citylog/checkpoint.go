package citylog

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"sort"

	"dems"
)

// indexHeader is the first line of an index file; the city follows.
const indexHeader = "dems city log index 1 "

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkpoint says what lies before an offset of a city log. The log was durable up to there when it was written.
type checkpoint struct {
	records  uint64      // ordered ones
	chain    dems.Digest // over them
	sequence uint64      // log index of the last of them
	offset   int64       // bytes
}

// appendLine appends the checkpoint's line: four fields and a CRC-32C of what stands before it, in hexadecimal.
func (c checkpoint) appendLine(dst []byte) []byte {
	start := len(dst)
	dst = fmt.Appendf(dst, "%d %s %d %d ", c.records, c.chain, c.sequence, c.offset)
	return fmt.Appendf(dst, "%08x\n", crc32.Checksum(dst[start:], castagnoli))
}

// parseCheckpoint is the inverse of appendLine. It accepts nothing else.
func parseCheckpoint(line []byte) (checkpoint, bool) {
	var c checkpoint
	var chain string
	var sum uint32
	if _, err := fmt.Sscanf(string(line), "%d %s %d %d %x\n", &c.records, &chain, &c.sequence, &c.offset, &sum); err != nil {
		return checkpoint{}, false
	}
	digest, err := hex.DecodeString(chain)
	if err != nil || copy(c.chain[:], digest) != len(digest) {
		return checkpoint{}, false
	}
	return c, bytes.Equal(c.appendLine(nil), line)
}

// parseIndex returns the checkpoints of an index file up to the first line that is not whole or not larger than the one
// before, and how many bytes of the file they take. A file that does not begin as one takes 0.
func parseIndex(data []byte, city dems.City) (checkpoints []checkpoint, size int) {
	header := []byte(indexHeader + city.String() + "\n")
	if !bytes.HasPrefix(data, header) {
		return nil, 0
	}
	size = len(header)
	last := checkpoint{}
	for {
		end := bytes.IndexByte(data[size:], '\n') + 1
		if end == 0 {
			return checkpoints, size
		}
		next, ok := parseCheckpoint(data[size : size+end])
		if !ok || next.records < last.records || next.offset <= last.offset {
			return checkpoints, size
		}
		checkpoints = append(checkpoints, next)
		last = next
		size += end
	}
}

// before returns the last checkpoint at or before record number first, the zero one if there is none.
func before(checkpoints []checkpoint, first uint64) checkpoint {
	after := sort.Search(len(checkpoints), func(i int) bool { return checkpoints[i].records > first })
	if after == 0 {
		return checkpoint{}
	}
	return checkpoints[after-1]
}
