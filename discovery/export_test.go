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
