/* A name service from a file: GATEHOUSE_TEST_NAMES is the path of a file with lines "NAME ADDRESS". If the address
 * is "-", the lookup of that name never ends. Names that are not in the file are looked up normally. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int (*look_up)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    look_up real = (look_up)dlsym(RTLD_NEXT, "getaddrinfo");
    char known[256], address[256];
    const char *path = getenv("GATEHOUSE_TEST_NAMES");
    FILE *file = name && path ? fopen(path, "r") : NULL;

    while (file && fscanf(file, "%255s %255s", known, address) == 2) {
        if (strcmp(known, name))
            continue;
        fclose(file);
        if (!strcmp(address, "-"))
            for (;;)
                pause();
        return real(address, service, hints, found);
    }
    if (file)
        fclose(file);
    return real(name, service, hints, found);
}
