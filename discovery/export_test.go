package discovery

// What the external tests look at.
var (
	Parse    = parse
	CheckURL = parseURL
)

const (
	TimeLimit   = timeLimit
	MaxDocument = maxDocument
)

// Reason returns why Parse says that there is no metadata in a text.
func Reason(err error) (string, bool) {
	a, ok := err.(absent)
	return string(a), ok
}
