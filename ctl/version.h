/* version.h - the version that programs and pages show. */
#pragma once
#define SATCHEL_VERSION "0.1.0"
