package fsm

import "github.com/zeebo/xxh3"

// keyIndex finds the records of keys by their names: hash tables with open addressing, of which a name's hash chooses
// one. A Go map would take three times the memory, and one table would stop the machine for long while it grows.
//
// It is no part of the state: it follows from the records, nothing runs through it, and snapshots do without.
type keyIndex struct {
	seed   uint64 // unknown to those who choose keys, so that they cannot make them collide here
	count  int
	tables [keyIndexTables]keyIndexTable
}

// keyIndexTables is such that MaxKeys names fill 70 % of tables of 4096 slots.
const keyIndexTables = 352

type keyIndexTable struct {
	slots []keySlot // their number is a power of two, or 0
	count int
}

// keySlot is where a record is. The low bits of the tag say in which slot it would best be; the zero tag is empty.
type keySlot struct {
	tag   uint32
	place keyPlace
}

// locate returns the table of a name, and its tag there.
func (x *keyIndex) locate(name *keyName) (*keyIndexTable, uint32) {
	sum := xxh3.HashSeed(name[:], x.seed)
	return &x.tables[sum>>32*keyIndexTables>>32], max(1, uint32(sum))
}

// find returns the slot whose record has a name, or -1. The caller's same tells whether the record at a place has it.
func (t *keyIndexTable) find(tag uint32, same func(keyPlace) bool) int {
	if len(t.slots) == 0 {
		return -1
	}
	mask := uint32(len(t.slots) - 1)
	for at := tag & mask; t.slots[at].tag != 0; at = (at + 1) & mask {
		if t.slots[at].tag == tag && same(t.slots[at].place) {
			return int(at)
		}
	}
	return -1
}

// add adds a name that is not in the index.
func (x *keyIndex) add(name *keyName, place keyPlace) {
	t, tag := x.locate(name)
	if (t.count+1)*4 > len(t.slots)*3 {
		t.grow()
	}
	t.put(keySlot{tag, place})
	t.count++
	x.count++
}

// put puts a slot into the first free place. There is one.
func (t *keyIndexTable) put(slot keySlot) {
	mask := uint32(len(t.slots) - 1)
	at := slot.tag & mask
	for t.slots[at].tag != 0 {
		at = (at + 1) & mask
	}
	t.slots[at] = slot
}

func (t *keyIndexTable) grow() {
	old := t.slots
	t.slots = make([]keySlot, max(16, 2*len(old)))
	for _, slot := range old {
		if slot.tag != 0 {
			t.put(slot)
		}
	}
}

// remove empties a slot and moves later ones up that would not be found otherwise.
func (x *keyIndex) remove(t *keyIndexTable, hole int) {
	mask := uint32(len(t.slots) - 1)
	empty := uint32(hole)
	for at := (empty + 1) & mask; t.slots[at].tag != 0; at = (at + 1) & mask {
		best := t.slots[at].tag & mask
		if (at-best)&mask >= (at-empty)&mask {
			t.slots[empty] = t.slots[at]
			empty = at
		}
	}
	t.slots[empty] = keySlot{}
	t.count--
	x.count--
}
