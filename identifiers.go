package dems

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// City is the three capitals of a city, for example TOR. The zero City is no city.
type City [3]byte

// String returns the city's three capitals, or "" for the zero City.
func (c City) String() string {
	if c == (City{}) {
		return ""
	}
	return string(c[:])
}

// MarshalText implements encoding.TextMarshaler.
func (c City) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// ParseCity parses three letters, in either case, with spaces around. It does not know which cities exist; Cities does.
func ParseCity(text string) (City, bool) {
	text = canonical(text)
	if len(text) != 3 {
		return City{}, false
	}
	city := City{text[0], text[1], text[2]}
	return city, city.wellFormed()
}

func (c City) wellFormed() bool {
	for _, letter := range c {
		if letter < 'A' || letter > 'Z' {
			return false
		}
	}
	return true
}

// Role says what a user is: a manager or a customer.
type Role byte

// The roles, as the letter that stands in a user ID.
const (
	Manager  Role = 'M'
	Customer Role = 'C'
)

// UserID names a manager or a customer, for example TORM2345. It is comparable; the zero UserID is nobody.
type UserID struct {
	City   City
	Role   Role
	Number uint16 // 0 to 9999
}

// ParseUserID parses city + M or C + four digits, in either case, with spaces around.
func ParseUserID(text string) (UserID, bool) {
	text = canonical(text)
	if len(text) != 8 {
		return UserID{}, false
	}
	id := UserID{City: City{text[0], text[1], text[2]}, Role: Role(text[3])}
	for _, digit := range []byte(text[4:]) {
		if digit < '0' || digit > '9' {
			return UserID{}, false
		}
		id.Number = id.Number*10 + uint16(digit-'0')
	}
	return id, id.wellFormed()
}

func (u UserID) wellFormed() bool {
	return u.City.wellFormed() && (u.Role == Manager || u.Role == Customer) && u.Number <= 9999
}

// IsManager tells whether the user is a manager.
func (u UserID) IsManager() bool { return u.Role == Manager }

// IsCustomer tells whether the user is a customer.
func (u UserID) IsCustomer() bool { return u.Role == Customer }

// String returns the canonical form, or "" for the zero UserID.
func (u UserID) String() string {
	if u == (UserID{}) {
		return ""
	}
	return string(u.AppendText(make([]byte, 0, 8)))
}

// AppendText appends the canonical form of a non-zero UserID to dst.
func (u UserID) AppendText(dst []byte) []byte {
	dst = append(dst, u.City[0], u.City[1], u.City[2], byte(u.Role))
	return appendDigits(dst, uint(u.Number), 4)
}

// MarshalText implements encoding.TextMarshaler.
func (u UserID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Compare orders users by city, role and number.
func (u UserID) Compare(other UserID) int { return cmp.Compare(u.Order(), other.Order()) }

// Order returns an integer that is different for every user and orders them as Compare does.
func (u UserID) Order() uint64 {
	return u.City.order()<<16<<8 | uint64(u.Role)<<16 | uint64(u.Number)
}

// UserIDFromOrder is the inverse of UserID.Order for every well-formed user ID.
func UserIDFromOrder(order uint64) UserID {
	return UserID{City: cityFromOrder(order >> 24), Role: Role(order >> 16), Number: uint16(order)}
}

// order packs the letters into the low 24 bits so that integers compare like the letters.
func (c City) order() uint64 {
	return uint64(c[0])<<16 | uint64(c[1])<<8 | uint64(c[2])
}

func cityFromOrder(order uint64) City {
	return City{byte(order >> 16), byte(order >> 8), byte(order)}
}

// Slot is a part of a day.
type Slot uint8

// The slots of a day, in their order.
const (
	Morning   Slot = 1
	Afternoon Slot = 2
	Evening   Slot = 3
)

const slotLetters = " MAE"

// Date is a day between 2000-01-01 and 2099-12-31.
type Date struct {
	Year  uint8 // years since 2000, 0 to 99
	Month uint8 // 1 to 12
	Day   uint8 // 1 to 31
}

// Valid tells whether the date exists in the Gregorian calendar.
func (d Date) Valid() bool {
	if d.Year > 99 || d.Month < 1 || d.Month > 12 || d.Day < 1 {
		return false
	}
	days := [...]uint8{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[d.Month-1]
	if d.Month == 2 && d.Year%4 == 0 { // every fourth year from 2000 to 2099 is a leap year, 2000 included
		days = 29
	}
	return d.Day <= days
}

// MonthNumber returns a number that is equal for two dates exactly when they fall in the same calendar month.
func (d Date) MonthNumber() int { return int(d.Year)*12 + int(d.Month) }

// EventID names an event within its type, for example TORM100519: city, slot, ddmmyy.
type EventID struct {
	City City
	Slot Slot
	Date Date
}

// ParseEventID parses city + slot + ddmmyy, in either case, with spaces around. The date must exist.
func ParseEventID(text string) (EventID, bool) {
	text = canonical(text)
	if len(text) != 10 {
		return EventID{}, false
	}
	id := EventID{City: City{text[0], text[1], text[2]}}
	if slot := strings.IndexByte(slotLetters, text[3]); slot > 0 {
		id.Slot = Slot(slot)
	}
	parts := [3]uint8{}
	for i, digit := range []byte(text[4:]) {
		if digit < '0' || digit > '9' {
			return EventID{}, false
		}
		parts[i/2] = parts[i/2]*10 + digit - '0'
	}
	id.Date = Date{Day: parts[0], Month: parts[1], Year: parts[2]}
	return id, id.wellFormed()
}

func (e EventID) wellFormed() bool {
	return e.City.wellFormed() && e.Slot >= Morning && e.Slot <= Evening && e.Date.Valid()
}

// String returns the canonical form, or "" for the zero EventID.
func (e EventID) String() string {
	if e == (EventID{}) {
		return ""
	}
	return string(e.AppendText(make([]byte, 0, 10)))
}

// AppendText appends the canonical form of a well-formed EventID to dst.
func (e EventID) AppendText(dst []byte) []byte {
	dst = append(dst, e.City[0], e.City[1], e.City[2], slotLetters[e.Slot&3])
	dst = appendDigits(dst, uint(e.Date.Day), 2)
	dst = appendDigits(dst, uint(e.Date.Month), 2)
	return appendDigits(dst, uint(e.Date.Year), 2)
}

// MarshalText implements encoding.TextMarshaler.
func (e EventID) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// EventType is one of the three kinds of event. The zero EventType is none.
type EventType uint8

// The event types, in the order in which events of one slot and city are listed.
const (
	Conference EventType = 1
	Seminar    EventType = 2
	TradeShow  EventType = 3
)

// EventTypes lists every event type in order.
var EventTypes = [...]EventType{Conference, Seminar, TradeShow}

var eventTypeNames = [...]string{"", "conference", "seminar", "tradeshow"}

// ParseEventType parses a type's name; case, spaces, hyphens, underscores and a plural s are ignored.
func ParseEventType(text string) (EventType, bool) {
	if len(text) > maxIdentifierBytes {
		return 0, false
	}
	name := strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '\t' || r == '\n' || r == '\r' || r == '-' || r == '_':
			return -1
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return r
	}, text)
	name = strings.TrimSuffix(name, "s")
	for _, eventType := range EventTypes {
		if eventTypeNames[eventType] == name {
			return eventType, true
		}
	}
	return 0, false
}

func (t EventType) wellFormed() bool { return t >= Conference && t <= TradeShow }

// String returns the canonical name, or "" for no event type.
func (t EventType) String() string {
	if !t.wellFormed() {
		return ""
	}
	return eventTypeNames[t]
}

// MarshalText implements encoding.TextMarshaler.
func (t EventType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// EventKey identifies an event: its type and its ID. It is comparable and eight bytes long.
type EventKey struct {
	Type EventType
	ID   EventID
}

// String returns type/ID, for example seminar/TORM100519.
func (k EventKey) String() string { return k.Type.String() + "/" + k.ID.String() }

// AppendText appends type/ID of a well-formed EventKey to dst.
func (k EventKey) AppendText(dst []byte) []byte {
	return k.ID.AppendText(append(append(dst, k.Type.String()...), '/'))
}

// Compare orders events chronologically: date, slot, city, type.
func (k EventKey) Compare(other EventKey) int { return cmp.Compare(k.Order(), other.Order()) }

// Order returns an integer that is different for every event and orders them chronologically, as Compare does.
// Without a type it is smaller than that of every event with the same ID.
func (k EventKey) Order() uint64 {
	date := uint64(k.ID.Date.Year)<<9 | uint64(k.ID.Date.Month)<<5 | uint64(k.ID.Date.Day)
	return (date<<2|uint64(k.ID.Slot))<<26 | k.ID.City.order()<<2 | uint64(k.Type)
}

// EventKeyFromOrder is the inverse of EventKey.Order for every well-formed key.
func EventKeyFromOrder(order uint64) EventKey {
	date := order >> 28
	return EventKey{
		Type: EventType(order & 3),
		ID: EventID{
			City: cityFromOrder(order >> 2),
			Slot: Slot(order >> 26 & 3),
			Date: Date{Year: uint8(date >> 9), Month: uint8(date >> 5 & 15), Day: uint8(date & 31)},
		},
	}
}

// IsForeign tells whether an event takes place outside the customer's home city.
func (k EventKey) IsForeign(customer UserID) bool { return k.ID.City != customer.City }

// maxIdentifierBytes bounds identifier text before any work is done on it; the longest canonical form has 10 bytes.
const maxIdentifierBytes = 64

// canonical trims and upper-cases ASCII text. Anything else stays as it is and is refused by the parsers.
func canonical(text string) string {
	if len(text) > maxIdentifierBytes {
		return ""
	}
	text = strings.Trim(text, " \t\r\n")
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, text)
}

func appendDigits(dst []byte, number uint, width int) []byte {
	start := len(dst)
	for range width {
		dst = append(dst, '0')
	}
	for i := len(dst) - 1; i >= start; i-- {
		dst[i] = byte('0' + number%10)
		number /= 10
	}
	return dst
}

// NamedCity is a city with the name that people read.
type NamedCity struct {
	City City   `json:"city"`
	Name string `json:"name"`
}

// Cities lists the cities of a cluster, in the order of their letters. It is part of the replicated state's identity:
// every node of a cluster must be given the same.
type Cities []NamedCity

// DefaultCities returns Montreal, Ottawa and Toronto.
func DefaultCities() Cities {
	return Cities{
		{City{'M', 'T', 'L'}, "Montreal"},
		{City{'O', 'T', 'W'}, "Ottawa"},
		{City{'T', 'O', 'R'}, "Toronto"},
	}
}

// ParseCities parses TOR=Toronto,MTL=Montreal and returns the cities in the order of their letters.
func ParseCities(text string) (Cities, error) {
	var cities Cities
	for part := range strings.SplitSeq(text, ",") {
		code, name, ok := strings.Cut(strings.TrimSpace(part), "=")
		city, valid := ParseCity(code)
		if !ok || !valid || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("city %q: write three letters, an equals sign and a name, as in TOR=Toronto", part)
		}
		name = strings.TrimSpace(name)
		if len(name) > MaxCityNameBytes {
			return nil, fmt.Errorf("city %s: a name has at most %d bytes", city, MaxCityNameBytes)
		}
		if !printable(name) {
			return nil, fmt.Errorf("city %s: a name consists of printable characters", city)
		}
		at, found := cities.search(city)
		if found {
			return nil, fmt.Errorf("city %s stands twice", city)
		}
		cities = append(cities[:at], append(Cities{{city, name}}, cities[at:]...)...)
		if len(cities) > MaxCities {
			return nil, fmt.Errorf("a cluster has at most %d cities", MaxCities)
		}
	}
	return cities, nil
}

// printable tells whether text is valid UTF-8 without control characters.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Has tells whether a city is one of the cluster's.
func (c Cities) Has(city City) bool {
	_, found := c.search(city)
	return found
}

// String returns the form that ParseCities reads.
func (c Cities) String() string {
	parts := make([]string, len(c))
	for i, named := range c {
		parts[i] = named.City.String() + "=" + named.Name
	}
	return strings.Join(parts, ",")
}

// search is a linear scan: a cluster has a handful of cities, and this is on the path of every operation.
func (c Cities) search(city City) (int, bool) {
	for i := range c {
		if c[i].City == city {
			return i, true
		}
		if c[i].City.order() > city.order() {
			return i, false
		}
	}
	return len(c), false
}

// Index returns the position of a city among the cluster's, or -1.
func (c Cities) Index(city City) int {
	if i, found := c.search(city); found {
		return i
	}
	return -1
}
