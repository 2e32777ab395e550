package dems

// The inverse of the MarshalText methods: what a client reads out of answers. Each accepts exactly what its parser
// accepts, and leaves the value alone when it refuses. The error is always an *Error.

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *City) UnmarshalText(text []byte) error {
	return unmarshal(c, text, ParseCity, newError(MalformedRequest, "A city is three letters, as in TOR."))
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *UserID) UnmarshalText(text []byte) error {
	return unmarshal(u, text, ParseUserID, newError(InvalidUserID, ""))
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *EventID) UnmarshalText(text []byte) error {
	return unmarshal(e, text, ParseEventID, newError(InvalidEventID, ""))
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *EventType) UnmarshalText(text []byte) error {
	return unmarshal(t, text, ParseEventType, newError(InvalidEventType, ""))
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	return unmarshal(d, text, ParseDigest, newError(MalformedRequest, "A digest is 32 hexadecimal digits, a to f in lower case."))
}

func unmarshal[T any](target *T, text []byte, parse func(string) (T, bool), refusal *Error) error {
	value, ok := parse(string(text))
	if !ok {
		return refusal
	}
	*target = value
	return nil
}
