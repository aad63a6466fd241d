/* Tells programs that ask for the limit on descriptors what $TOLD says: the hard limit of this machine may be lower. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

int getdtablesize(void)
{
    return atoi(getenv("TOLD"));
}

long sysconf(int name)
{
    static long (*real)(int);
    if (!real)
        real = (long (*)(int))dlsym(RTLD_NEXT, "sysconf");
    return name == _SC_OPEN_MAX ? getdtablesize() : real(name);
}
