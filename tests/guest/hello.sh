#!/bin/sh
# The guest that only shows that it boots.
echo "hello from $(uname -sr)"
