package login

import "errors"

// Plan 9 tells in words, which differ, why a port cannot be had.
var (
	errInUse    = errors.New("the address is in use")
	errNoAddr   = errors.New("there is no such address")
	errNoFamily = errors.New("there is no such kind of address")
)
