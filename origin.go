package dems

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Origin names a backup by the state that it holds: the index of the last entry and the digest of the state. It is also what
// a cluster descends from that was restored from that backup; the zero Origin is that of a cluster that began empty.
type Origin struct {
	Index  uint64 `json:"index"`
	Digest Digest `json:"digest"`
}

// String returns the origin for people.
func (o Origin) String() string {
	if o == (Origin{}) {
		return "no backup"
	}
	return fmt.Sprintf("the backup of index %d with digest %s", o.Index, o.Digest)
}

// Mark returns a number by which nodes of clusters with different origins tell each other apart; 0 of the zero Origin.
func (o Origin) Mark() uint64 { return binary.LittleEndian.Uint64(o.Digest[:]) }

// AppendOrigin appends the binary form of an origin: index, digest (16 bytes).
func AppendOrigin(dst []byte, o Origin) []byte {
	return append(binary.AppendUvarint(dst, o.Index), o.Digest[:]...)
}

// DecodeOrigin is the inverse of AppendOrigin.
func DecodeOrigin(d *Decoder) Origin {
	o := Origin{Index: d.Uvarint()}
	copy(o.Digest[:], d.Bytes(len(o.Digest)))
	return o
}

// BackupPart is a piece of a backup as a node sends it. The first tells what the backup is of and has no data; the data of
// the others, one after the other, is the backup.
type BackupPart struct {
	Origin Origin
	Data   []byte
}

// ParseDigest parses what Digest.String returns, and nothing else.
func ParseDigest(text string) (Digest, bool) {
	var d Digest
	if len(text) != hex.EncodedLen(len(d)) {
		return Digest{}, false
	}
	if _, err := hex.Decode(d[:], []byte(text)); err != nil || d.String() != text {
		return Digest{}, false
	}
	return d, true
}
